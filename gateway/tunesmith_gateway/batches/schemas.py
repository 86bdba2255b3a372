"""What `/v1/batches` takes and shows; the fields are OpenAI's."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from tunesmith_shared.schemas.base import Body
from tunesmith_shared.tables import Batch

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


class BatchCreate(Body):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: Endpoint
    completion_window: Literal["24h"] = "24h"
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None


class BatchError(BaseModel):
    """Why a batch was refused. `line` counts the lines of the input file from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchErrors(BaseModel):
    """The reasons, in the order of their lines."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    """How far a batch is, in lines."""

    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    """A batch. Times are in seconds. None expires: a batch ends when its last line is answered."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    expires_at: int | None = None
    expired_at: int | None = None
    request_counts: RequestCounts
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, row: Batch) -> "BatchObject":
        """Show a row."""
        same = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        own = ("errors", "metadata")
        return cls(
            **{name: value for name, value in same.items() if name not in own},
            errors=BatchErrors(data=[BatchError(**error) for error in row.errors]) if row.errors else None,
            request_counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
            metadata=row.batch_metadata or None,
        )
