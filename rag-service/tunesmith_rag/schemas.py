"""What the routes take and give: OpenAI's vector store objects, with our extensions beside their fields."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tunesmith_rag.expiry import expired, expires_at
from tunesmith_rag.filters import to_condition
from tunesmith_rag.index import FILTERABLE
from tunesmith_rag.ranking import Question, Weights
from tunesmith_rag.shadows import Reindexing
from tunesmith_shared.tables import Document, FileBatch, VectorStore

Json = dict[str, Any]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
Attributes = Annotated[
    dict[Annotated[str, Field(max_length=64)], bool | float | Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]

_PUBLIC_STATUS = {"superseded": "cancelled", "replaced": "cancelled"}
ENDED = {"completed", "failed", "superseded", "replaced"}
"""The states of a document in which nothing more happens to it."""


class Body(BaseModel):
    """A request body; a field that is not known is an error, so that nothing asked for is left out silently."""

    model_config = ConfigDict(extra="forbid")


class StaticSizes(Body):
    """Chunk sizes in tokens, in OpenAI's limits; what the embedding model takes is a further limit at ingestion."""

    max_chunk_size_tokens: int = Field(ge=100, le=4096)
    chunk_overlap_tokens: int = Field(ge=0)

    @model_validator(mode="after")
    def _half(self) -> Self:
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens / 2:
            raise ValueError("chunk_overlap_tokens must not be more than half of max_chunk_size_tokens")
        return self


class AutoChunking(Body):
    """Sizes that suit the embedding model."""

    type: Literal["auto"] = "auto"


class StaticChunking(Body):
    """Given sizes."""

    type: Literal["static"]
    static: StaticSizes


ChunkingStrategy = Annotated[AutoChunking | StaticChunking, Field(discriminator="type")]


class Attributed(Body):
    """A body with attributes of a document; as `POST /v1/vector_stores/{id}/files/{file_id}` replaces them."""

    attributes: Attributes | None = None

    @model_validator(mode="after")
    def _free_names(self) -> Self:
        if taken := FILTERABLE & (self.attributes or {}).keys():
            raise ValueError(f"attributes may not be named {', '.join(sorted(taken))}: every chunk has these already")
        return self


class AttachFile(Attributed):
    """Body of `POST /v1/vector_stores/{id}/files`."""

    file_id: str
    chunking_strategy: ChunkingStrategy = AutoChunking()


class AttachFiles(Attributed):
    """Body of `POST /v1/vector_stores/{id}/file_batches`: file ids and what holds for all, or files with their own."""

    file_ids: list[str] = Field(default_factory=list, max_length=2000)
    files: list[AttachFile] = Field(default_factory=list, max_length=2000)
    chunking_strategy: ChunkingStrategy = AutoChunking()

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if bool(self.file_ids) == bool(self.files):
            raise ValueError("give either file_ids or files, with at least one file")
        return self

    @property
    def each(self) -> list[AttachFile]:
        """The files, each with its own attributes and sizes."""
        shared = {"attributes": self.attributes, "chunking_strategy": self.chunking_strategy}
        return self.files or [AttachFile.model_validate({"file_id": name, **shared}) for name in self.file_ids]


class ExpiresAfter(Body):
    """How many days after its last use a store is emptied."""

    anchor: Literal["last_active_at"] = "last_active_at"
    days: int = Field(ge=1, le=365)


class CreateStore(Body):
    """Body of `POST /v1/vector_stores`. `embedding_model` is an extension."""

    name: str = Field(default="", max_length=256)
    file_ids: list[str] = Field(default_factory=list, max_length=500)
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: ChunkingStrategy = AutoChunking()
    embedding_model: str | None = None


class UpdateStore(Body):
    """Body of `POST /v1/vector_stores/{id}`: what is not named stays; `expires_after: null` takes an expiry away."""

    name: str | None = Field(default=None, max_length=256)
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None


class Reindex(Body):
    """Body of `POST /v1/vector_stores/{id}/reindex`: the model to embed with from now on; by default the same."""

    embedding_model: str | None = Field(default=None, min_length=1, max_length=256)


class HybridSearch(Body):
    """What the ranking by meaning and the ranking by words count for; OpenAI's names."""

    embedding_weight: float = Field(ge=0, le=100)
    text_weight: float = Field(ge=0, le=100)

    @model_validator(mode="after")
    def _one_counts(self) -> Self:
        if not self.embedding_weight and not self.text_weight:
            raise ValueError("one of embedding_weight and text_weight must be above 0")
        return self


class RankingOptions(Body):
    """`score_threshold` is a cosine similarity; `ranker` "none" leaves reranking out, the others are the same.

    Extension: `diversity`, what likeness to a better chunk counts against a chunk.
    """

    ranker: Literal["auto", "none", "default-2024-08-21", "default-2024-11-15"] = "auto"
    score_threshold: float = Field(default=0.0, ge=0.0, le=1.0)
    diversity: float | None = Field(default=None, ge=0.0, le=1.0)
    hybrid_search: HybridSearch = HybridSearch(embedding_weight=1, text_weight=1)


class SearchBody(Body):
    """Body of `POST /v1/vector_stores/{id}/search`.

    Extensions: `rewrite_model`, the chat model that rewrites, `rewrite_count`, how many versions it writes,
    `merge_neighbours`, to get chunks that follow each other as one, `evidence_threshold`, or else whether a
    `large_model` is to answer, which needs less of it, and `explain`, to be told how the order came about.
    """

    query: str | list[str]
    filters: Json | None = None
    max_num_results: int = Field(default=10, ge=1, le=50)
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = False
    rewrite_model: str | None = None
    rewrite_count: int | None = Field(default=None, ge=1, le=8)
    merge_neighbours: bool = False
    evidence_threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    large_model: bool = False
    explain: bool = False

    @property
    def queries(self) -> list[str]:
        """The questions as a list."""
        return [self.query] if isinstance(self.query, str) else self.query

    def question(self, rewrite_model: str) -> Question:
        """Return what to find; `rewrite_model` rewrites when the body names no other. Raises `BadRequest`."""
        options, hybrid = self.ranking_options, self.ranking_options.hybrid_search
        return Question(
            self.queries,
            self.max_num_results,
            to_condition(self.filters) if self.filters else None,
            options.score_threshold,
            (self.rewrite_model or rewrite_model) if self.rewrite_query else None,
            self.rewrite_count,
            Weights(hybrid.embedding_weight, hybrid.text_weight),
            options.ranker != "none",
            options.diversity,
            self.merge_neighbours,
            self.evidence_threshold,
            self.large_model,
        )

    @model_validator(mode="after")
    def _something_to_find(self) -> Self:
        if not self.queries or not all(query.strip() for query in self.queries) or len(self.queries) > 16:
            raise ValueError("query must be a question, or a list of 1 to 16 questions, none of them empty")
        return self


def store_object(store: VectorStore, counts: dict[str, int], usage_bytes: int, anew: Reindexing | None) -> Json:
    """Return the `vector_store` object; `counts` has the number of documents by stored status."""
    shown = _shown(counts)
    days = store.expires_after_days
    return {
        "id": store.id,
        "object": "vector_store",
        "name": store.name,
        "created_at": store.created_at,
        "last_active_at": store.last_active_at,
        "status": "expired" if expired(store) else "in_progress" if shown["in_progress"] else "completed",
        "usage_bytes": usage_bytes,
        "file_counts": {**shown, "cancelled": 0, "total": sum(shown.values())},
        "reindex": reindex_object(anew) if anew else None,
        "expires_after": {"anchor": "last_active_at", "days": days} if days else None,
        "expires_at": expires_at(store),
        "metadata": store.details,
        "model": store.model,
        "embedding_model": store.embedding_model,
        "embedding_dimension": store.embedding_dimension,
    }


def reindex_object(anew: Reindexing) -> Json:
    """Return what a `vector_store` says under `reindex` while its files are embedded anew, and when that failed."""
    counts = _shown(anew.counts)
    message = f"The store is searched with its former vectors. Reindex it again, or delete what failed: {anew.error}"
    return {
        "status": "failed" if anew.failed else "in_progress",
        "embedding_model": anew.model,
        "file_counts": {**counts, "total": sum(counts.values())},
        "chunks_done": anew.chunks_done,
        "last_error": {"code": "server_error", "message": message} if anew.failed else None,
    }


def _shown(counts: Mapping[str, int]) -> dict[str, int]:
    return {status: counts.get(status, 0) for status in ("in_progress", "completed", "failed")}


def batch_object(batch: FileBatch, documents: Sequence[Document]) -> Json:
    """Return the `vector_store.files_batch` object; `documents` are those of its files that have not been deleted."""
    statuses = [public_status(document) for document in documents]
    counts = {status: statuses.count(status) for status in ("in_progress", "completed", "failed", "cancelled")}
    ended = "cancelled" if batch.cancelled_at else "failed" if statuses and set(statuses) == {"failed"} else "completed"
    return {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": batch.created_at,
        "vector_store_id": batch.vector_store_id,
        "status": "in_progress" if counts["in_progress"] and not batch.cancelled_at else ended,
        "file_counts": {**counts, "total": len(statuses)},
    }


def public_status(document: Document) -> str:
    """Return a document's status in OpenAI's words."""
    return _PUBLIC_STATUS.get(document.status, document.status)


def document_object(document: Document) -> Json:
    """Return the `vector_store.file` object; `filename`, `progress` and `facts` are extensions."""
    error = {"code": document.error_code, "message": document.error_message} if document.error_code else None
    return {
        "id": document.file_id,
        "object": "vector_store.file",
        "vector_store_id": document.vector_store_id,
        "created_at": document.created_at,
        "usage_bytes": document.usage_bytes,
        "status": public_status(document),
        "last_error": error,
        "attributes": document.attributes,
        "chunking_strategy": document.chunking_strategy,
        "filename": document.filename,
        "progress": {
            "pages_total": document.pages_total,
            "pages_done": document.pages_done,
            "chunks_total": document.chunks_total,
            "chunks_done": document.chunks_done,
        },
        "facts": document.facts,
    }
