"""Files: `/v1/files`."""

from typing import Literal

from pydantic import BaseModel

from tunesmith_shared.tables import File

Purpose = Literal["assistants", "fine-tune", "batch", "user_data", "fine-tune-results", "batch_output"]
UPLOAD_PURPOSES = ("assistants", "fine-tune", "batch", "user_data")


class FileObject(BaseModel):
    """An upload or a result. `bytes` is its size, `created_at` in seconds."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    expires_at: int | None = None

    @classmethod
    def of(cls, row: File) -> "FileObject":
        """Show a row."""
        return cls(
            id=row.id,
            bytes=row.bytes,
            created_at=row.created_at,
            filename=row.filename,
            purpose=row.purpose,
            expires_at=row.expires_at,
        )
