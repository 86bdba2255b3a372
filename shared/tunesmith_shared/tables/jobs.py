"""Fine-tuning jobs with their events and checkpoints, and the interruptions of any workflow."""

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from tunesmith_shared.tables.base import Base, Json


class Job(Base):
    """A fine-tuning job, as `/v1/fine_tuning/jobs` shows it. `request` is the body it was created with.

    `run` counts how often it was taken up, by a resume after a pause or a failure; each run is a workflow of its own.
    `idempotency_key` is that of the request that made it, if it had one.
    """

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("owner", "idempotency_key"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    model: Mapped[str] = mapped_column(String(256))
    model_name: Mapped[str] = mapped_column(String(256))
    fine_tuned_model: Mapped[str | None] = mapped_column(String(256))
    status: Mapped[str] = mapped_column(String(24), index=True)
    training_file: Mapped[str] = mapped_column(String(64))
    validation_file: Mapped[str | None] = mapped_column(String(64))
    seed: Mapped[int]
    method: Mapped[Json]
    request: Mapped[Json]
    job_metadata: Mapped[Json] = mapped_column(default=dict)
    result_files: Mapped[list[str]] = mapped_column(default=list)
    trained_tokens: Mapped[int | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_param: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int]
    finished_at: Mapped[int | None]
    estimated_finish: Mapped[int | None]
    run: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))


class Interruption(Base):
    """A workflow that was under way when its service ended: how often that was a crash, at `steps_done` finished steps.

    `announced`: the service ended as it should; the next start does not count it.
    """

    __tablename__ = "interruptions"
    workflow_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    executor: Mapped[str] = mapped_column(String(128), index=True)
    steps_done: Mapped[int]
    deaths: Mapped[int]
    announced: Mapped[bool]


class JobEvent(Base):
    """Something that happened in a job: a sentence (`message`) or figures (`metrics`). `key` makes it idempotent."""

    __tablename__ = "job_events"
    __table_args__ = (UniqueConstraint("job_id", "key"), Index(None, "job_id", "id"))
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    key: Mapped[str | None] = mapped_column(String(128))
    level: Mapped[str] = mapped_column(String(8))
    type: Mapped[str] = mapped_column(String(8))
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[Json] = mapped_column(default=dict)
    created_at: Mapped[int]


class Checkpoint(Base):
    """A whole checkpoint of a job's training."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("job_id", "step_number"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    fine_tuned_model_checkpoint: Mapped[str] = mapped_column(String(256))
    step_number: Mapped[int]
    metrics: Mapped[Json]
    created_at: Mapped[int]
