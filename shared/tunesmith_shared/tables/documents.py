"""Vector stores and the documents in them."""

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from tunesmith_shared.tables.base import Base, Json


class VectorStore(Base):
    """A set of documents that can be searched. `model` is set for the store that belongs to one model's documents.

    `embedding_fingerprint` is what its embedding model made of a known text (`tunesmith_rag/fingerprint.py`).
    `index_name` is where its chunks are, when that is not under its id. `reindexes` is set for a shadow, which nobody
    sees: the id of the store whose documents are embedded anew in it (`tunesmith_rag/reindex.py`).
    """

    __tablename__ = "vector_stores"
    __table_args__ = (UniqueConstraint("owner", "model"),)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    name: Mapped[str] = mapped_column(String(256))
    model: Mapped[str | None] = mapped_column(String(256))
    embedding_model: Mapped[str] = mapped_column(String(256))
    embedding_dimension: Mapped[int | None]
    embedding_fingerprint: Mapped[str | None] = mapped_column(Text)
    index_name: Mapped[str | None] = mapped_column(String(64))
    reindexes: Mapped[str | None] = mapped_column(String(64), unique=True, index=True)
    details: Mapped[Json] = mapped_column(default=dict)
    expires_after_days: Mapped[int | None]
    created_at: Mapped[int]
    last_active_at: Mapped[int]

    @property
    def index(self) -> str:
        """The name of the index that its chunks are in."""
        return self.index_name or self.id


class Document(Base):
    """A file in a vector store. Only the chunks of a completed document are searched.

    Its id names its chunks. A document of a shadow is the twin of one in the store that the shadow takes over: its id
    is `<the other's id>.<the shadow's id>`, and its chunks are named by the other's.

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

    @property
    def chunks_name(self) -> str:
        """The document id that its chunks are named by."""
        return self.id.partition(".")[0]


class FileBatch(Base):
    """Files that were added to a vector store in one request; `document_ids` names the documents they became."""

    __tablename__ = "file_batches"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64), index=True)
    vector_store_id: Mapped[str] = mapped_column(ForeignKey("vector_stores.id", ondelete="CASCADE"), index=True)
    document_ids: Mapped[list[str]] = mapped_column(default=list)
    cancelled_at: Mapped[int | None]
    created_at: Mapped[int]
