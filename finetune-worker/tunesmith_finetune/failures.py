"""How whatever goes wrong in a job becomes the job's error: a code, a sentence, and the request field at fault."""

from typing import TypedDict

from tunesmith_finetune.llama_cpp import ToolsMissing
from tunesmith_finetune.processes import ChildFailed
from tunesmith_shared.errors import StorageFull, TunesmithError


class Failure(TypedDict):
    """The error of a failed job, as JSON."""

    code: str
    message: str
    param: str | None


def failure_of(error: Exception) -> Failure:
    """Return the job error for `error`; what nobody expected is `internal_error` and is in the log."""
    if isinstance(error, TunesmithError):
        return Failure(code=error.code or error.type, message=error.message, param=error.param)
    if isinstance(error, ChildFailed | ToolsMissing):
        return Failure(code=error.code, message=error.message, param=None)
    if isinstance(error, OSError) and error.errno == 28:
        full = StorageFull("The disk is full. Free some space, then start the job again.")
        return failure_of(full)
    return Failure(
        code="internal_error", message="Something went wrong on our side; the worker's log has more.", param=None
    )
