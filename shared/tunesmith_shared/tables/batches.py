"""Batches of requests, line by line."""

from sqlalchemy import JSON, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from tunesmith_shared.tables.base import Base, Json


class Batch(Base):
    """A file of requests in work, as `/v1/batches` shows it.

    `key_id` is the API key whose limits its lines count against. `runner` is the gateway that works on it until
    `lease_until`; `attempts` counts how often one began since a line was last finished.
    """

    __tablename__ = "batches"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    key_id: Mapped[str | None] = mapped_column(String(64))
    endpoint: Mapped[str] = mapped_column(String(64))
    input_file_id: Mapped[str] = mapped_column(String(64))
    output_file_id: Mapped[str | None] = mapped_column(String(64))
    error_file_id: Mapped[str | None] = mapped_column(String(64))
    completion_window: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(16), index=True)
    errors: Mapped[list[Json]] = mapped_column(JSON, default=list)
    batch_metadata: Mapped[Json] = mapped_column(default=dict)
    total: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[int]
    in_progress_at: Mapped[int | None]
    finalizing_at: Mapped[int | None]
    completed_at: Mapped[int | None]
    failed_at: Mapped[int | None]
    cancelling_at: Mapped[int | None]
    cancelled_at: Mapped[int | None]
    runner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[int | None]
    attempts: Mapped[int] = mapped_column(default=0)


class BatchLine(Base):
    """The result of one line of a batch's input, kept until the batch's output files hold it."""

    __tablename__ = "batch_lines"
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    succeeded: Mapped[bool]
    result: Mapped[str] = mapped_column(Text)
