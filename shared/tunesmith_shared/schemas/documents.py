"""Vector stores and the documents in them: `/v1/vector_stores`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from tunesmith_shared.schemas.base import Body

FileStatus = Literal["in_progress", "completed", "cancelled", "failed"]
Attributes = Annotated[dict[str, str | float | bool], Field(max_length=16)]


class StaticChunks(Body):
    """Sizes in tokens of the embedding model; the overlap is at most half of the size."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)] = 800
    chunk_overlap_tokens: Annotated[int, Field(ge=0)] = 400

    @model_validator(mode="after")
    def _check(self) -> "StaticChunks":
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            raise ValueError("chunk_overlap_tokens must not exceed half of max_chunk_size_tokens")
        return self


class ChunkingStrategy(Body):
    """`auto` chooses sizes that fit the embedding model; `static` names them."""

    type: Literal["auto", "static"] = "auto"
    static: StaticChunks | None = None


class ExpiresAfter(Body):
    """A store that is not used for `days` is removed."""

    anchor: Literal["last_active_at"] = "last_active_at"
    days: Annotated[int, Field(ge=1, le=365)]


class VectorStoreCreate(Body):
    """The body of `POST /v1/vector_stores`."""

    name: Annotated[str, Field(max_length=256)] | None = None
    description: str | None = None
    file_ids: Annotated[list[str], Field(max_length=500, default_factory=list)]
    expires_after: ExpiresAfter | None = None
    chunking_strategy: ChunkingStrategy = ChunkingStrategy()
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None


class FileCounts(BaseModel):
    """How many documents are in which state."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class VectorStoreObject(BaseModel):
    """A vector store. `model` is set when it is the store of one model's documents."""

    id: str
    object: Literal["vector_store"] = "vector_store"
    name: str
    created_at: int
    last_active_at: int
    status: Literal["in_progress", "completed", "expired"]
    usage_bytes: int
    file_counts: FileCounts
    expires_after: ExpiresAfter | None = None
    expires_at: int | None = None
    metadata: dict[str, str] = {}
    model: str | None = None
    embedding_model: str


class FileAttach(Body):
    """The body of `POST /v1/vector_stores/{id}/files`."""

    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy = ChunkingStrategy()


class LastError(BaseModel):
    """Why a document could not be ingested."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class Progress(BaseModel):
    """How far ingestion has come; totals are None until they are known."""

    pages_total: int | None = None
    pages_done: int = 0
    chunks_total: int | None = None
    chunks_done: int = 0


class VectorStoreFileObject(BaseModel):
    """A document in a vector store."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    vector_store_id: str
    created_at: int
    usage_bytes: int
    status: FileStatus
    last_error: LastError | None = None
    attributes: dict[str, Any] = {}
    chunking_strategy: dict[str, Any] = {}
    filename: str
    progress: Progress = Progress()


class RankingOptions(Body):
    """`score_threshold` is a cosine similarity from 0 to 1 below which results are left out."""

    ranker: str = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0


class SearchRequest(Body):
    """The body of `POST /v1/vector_stores/{id}/search`. `rewrite_query` asks for more versions of the question."""

    query: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1, max_length=16)]
    filters: dict[str, Any] | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions = RankingOptions()
    rewrite_query: bool = False
    rewrite_model: str | None = None
    queries: Annotated[int, Field(ge=1, le=8)] | None = None


class SearchText(BaseModel):
    """A chunk's text."""

    type: Literal["text"] = "text"
    text: str


class SearchResult(BaseModel):
    """A chunk that was found. `score` is its cosine similarity; `attributes.page` its page, counted from 1."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Any]
    content: list[SearchText]


class SearchPage(BaseModel):
    """The answer to a search: the queries that were searched, and the chunks, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[SearchResult]
    has_more: bool = False
    next_page: str | None = None
    notes: list[str] = []
