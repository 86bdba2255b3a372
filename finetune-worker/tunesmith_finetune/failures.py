"""How whatever goes wrong in a job becomes the job's error: a code, a sentence, and the request field at fault."""

import errno
from typing import TypedDict

from tunesmith_finetune.llama_cpp import ToolsMissing
from tunesmith_finetune.processes import ChildFailed
from tunesmith_shared.errors import StorageFull, TunesmithError


class Failure(TypedDict):
    """The error of a failed job, as JSON."""

    code: str
    message: str
    param: str | None


def failure_of(error: Exception, step: str) -> Failure:
    """Return the job error for `error` in `step`; what nobody expected is `internal_error` and is in the log."""
    if isinstance(error, StorageFull):
        return _storage_full(step, error.message)
    if isinstance(error, TunesmithError):
        return Failure(code=error.code or error.type, message=error.message, param=error.param)
    if isinstance(error, ChildFailed) and error.code == "storage_full":
        return _storage_full(step, error.message)
    if isinstance(error, ChildFailed | ToolsMissing):
        return Failure(code=error.code, message=error.message, param=None)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _storage_full(step, f"The disk is full{f' at {error.filename}' if error.filename else ''}.")
    return Failure(
        code="internal_error", message="Something went wrong on our side; the worker's log has more.", param=None
    )


def _storage_full(step: str, what: str) -> Failure:
    advice = "Then resume" if "free some space" in what.lower() else "Free some space, then resume"
    message = f"In the step '{step}': {what.rstrip('.')}. {advice} the job: it goes on from this step."
    return Failure(code="storage_full", message=message, param=None)
