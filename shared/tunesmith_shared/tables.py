"""All tables. Every row that a person can name has an owner; queries for it name the owner in their WHERE.

Timestamps are seconds since 1970; columns of JSON hold what the public API shows under the same name.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    """The declarative root; constraint names are fixed so that migrations can name them on every database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {int: BigInteger, Json: JSON, list[str]: JSON}  # noqa: RUF012 - read by SQLAlchemy as is


class ApiKey(Base):
    """An API key: only the sha256 of the secret is kept; `prefix` is what listings show of it.

    `limits` holds what differs from the settings for this key.
    """

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(128))
    prefix: Mapped[str] = mapped_column(String(16))
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    limits: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'"))
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    revoked_at: Mapped[int | None]


class IdempotentRequest(Base):
    """A creating request that carried an Idempotency-Key, and its answer once there is one (`status` is set then).

    `holder` is the instance of the gateway that serves or served it; `request_sha256` is known when it has been read.
    """

    __tablename__ = "idempotent_requests"
    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    request_sha256: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[int | None]
    content_type: Mapped[str | None] = mapped_column(String(128))
    body: Mapped[str | None] = mapped_column(Text)
    interrupted: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[int] = mapped_column(index=True)


class File(Base):
    """An upload or a result; its bytes are in the file store under the same id. `encoding` is what an upload of text
    said that it is in, if it did.
    """

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    filename: Mapped[str] = mapped_column(String(512))
    purpose: Mapped[str] = mapped_column(String(32))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    encoding: Mapped[str | None] = mapped_column(String(32))


class Model(Base):
    """A model that a person made: who owns it, and what it was made from. Models without a row belong to everyone."""

    __tablename__ = "models"
    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    base_model: Mapped[str] = mapped_column(String(256))
    job_id: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[int]


class Session(Base):
    """A conversation whose messages are kept."""

    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(256))
    created_at: Mapped[int]
    updated_at: Mapped[int]


class Message(Base):
    """One message of a session, in the order of `position`.

    `tokens` is what it takes in a prompt, from the counts that the model server gave; None when it gave none.
    """

    __tablename__ = "messages"
    __table_args__ = (UniqueConstraint("owner", "session_id", "position"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    session_id: Mapped[str] = mapped_column(String(128))
    position: Mapped[int]
    role: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(Text)
    tokens: Mapped[int | None]
    created_at: Mapped[int]


class VectorStore(Base):
    """A set of documents that can be searched. `model` is set for the store that belongs to one model's documents."""

    __tablename__ = "vector_stores"
    __table_args__ = (UniqueConstraint("owner", "model"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(256))
    model: Mapped[str | None] = mapped_column(String(256))
    embedding_model: Mapped[str] = mapped_column(String(256))
    embedding_dimension: Mapped[int | None]
    details: Mapped[Json] = mapped_column(default=dict)
    expires_after_days: Mapped[int | None]
    created_at: Mapped[int]
    last_active_at: Mapped[int]


class Document(Base):
    """A file in a vector store. Its id names its chunks; only the chunks of a completed document are searched.

    `status` is in_progress, completed, failed, superseded (a newer document of the same name is current, or its
    ingestion was cancelled; chunks still to be removed), replaced (they are gone) or deleting. `facts` holds what
    ingestion found out: pages without text, say. `revision` counts how often it was brought in anew: after a change of
    the embedding model, or of a damaged index.
    """

    __tablename__ = "documents"
    __table_args__ = (
        # The same bytes are one document, however many requests attach them at once.
        Index(
            "uq_documents_content",
            "vector_store_id",
            "sha256",
            unique=True,
            sqlite_where=text("status IN ('in_progress', 'completed')"),
            postgresql_where=text("status IN ('in_progress', 'completed')"),
        ),
    )
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    vector_store_id: Mapped[str] = mapped_column(ForeignKey("vector_stores.id", ondelete="CASCADE"), index=True)
    file_id: Mapped[str] = mapped_column(String(64))
    filename: Mapped[str] = mapped_column(String(512))
    sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(32))
    error_message: Mapped[str | None] = mapped_column(Text)
    attributes: Mapped[Json] = mapped_column(default=dict)
    chunking_strategy: Mapped[Json] = mapped_column(default=dict)
    facts: Mapped[Json] = mapped_column(default=dict)
    pages_total: Mapped[int | None]
    pages_done: Mapped[int] = mapped_column(default=0)
    chunks_total: Mapped[int | None]
    chunks_done: Mapped[int] = mapped_column(default=0)
    revision: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    usage_bytes: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[int]
    updated_at: Mapped[int]


class FileBatch(Base):
    """Files that were added to a vector store in one request; `document_ids` names the documents they became."""

    __tablename__ = "file_batches"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    vector_store_id: Mapped[str] = mapped_column(ForeignKey("vector_stores.id", ondelete="CASCADE"), index=True)
    document_ids: Mapped[list[str]] = mapped_column(default=list)
    cancelled_at: Mapped[int | None]
    created_at: Mapped[int]


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
