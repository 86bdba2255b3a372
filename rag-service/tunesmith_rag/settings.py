"""What the rag-service can be told: `TUNESMITH_*` in the environment, or `config.yaml`."""

import shutil
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from tunesmith_rag.evidence import Thresholds
from tunesmith_rag.neighbours import Graph
from tunesmith_rag.parse import ParseLimits
from tunesmith_shared.settings import ServiceSettings


def _by_its_name_now(embedder: object) -> object:
    """Take `onnx`, as settings from before OpenVINO have it, for what it meant: in this process."""
    return "in_process" if embedder == "onnx" else embedder


class RagSettings(ServiceSettings):
    """Settings of documents and retrieval. Sizes are in the unit that the name ends in."""

    chroma_url: str = Field(
        default="",
        description="A Chroma server (http://host:8000). Default: Chroma in this process, in <data_dir>/chroma.",
    )

    index_links: int = Field(
        default=32, ge=2, le=512, description="Links of a vector in the index of a new vector store (HNSW's M)."
    )
    index_build: int = Field(
        default=100, ge=8, le=4096, description="Candidates for these links while it is built (efConstruction)."
    )
    index_search: int = Field(default=200, ge=8, le=4096, description="Candidates while it is searched (efSearch).")

    embedding_model: str = Field(default="all-minilm", description="The model that new vector stores embed with.")
    embedding_max_tokens: int = Field(
        default=256, ge=16, description="The longest text the embedding model was trained on; a model's own limit wins."
    )
    embedder: Annotated[Literal["auto", "in_process", "ollama"], BeforeValidator(_by_its_name_now)] = Field(
        default="auto",
        description="Where all-minilm runs: in_process, at the model server (ollama), or auto: there if it has a GPU.",
    )
    embedding_batch: int = Field(
        default=8, ge=1, le=1024, description="Chunks that are embedded at once; a search may wait behind one batch."
    )
    embedding_threads: int = Field(default=0, ge=0, description="Processors for embedding in this process; 0: all.")
    embedding_wait_seconds: float = Field(
        default=900,
        ge=0,
        description="How long an ingestion waits for an embedding model that is still being prepared.",
    )
    embedding_place_seconds: float = Field(
        default=10,
        ge=0,
        description="How long it keeps its place among the ingestions while it waits; then others go on.",
    )
    query_wait_seconds: float = Field(default=20, gt=0, description="How long a search waits for the embedding model.")

    rewrite_model: str = Field(default="smollm2:135m", description="The chat model that writes versions of a question.")
    rewrite_count: int = Field(default=3, ge=1, le=8, description="How many versions it writes.")
    rewrite_seconds: float = Field(
        default=5, gt=0, description="How long it may take; then the plain question is searched."
    )
    rewrite_min_similarity: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="A version whose meaning is farther from the question than this is left out.",
    )

    reranker: Literal["none", "words", "endpoint"] = Field(
        default="words",
        description="What reorders the best candidates; endpoint is a cross-encoder at rerank_url.",
    )
    rerank_url: str = Field(default="", description="A server with /v1/rerank as Jina's (http://host:port).")
    rerank_model: str = Field(default="", description="The model that the endpoint is asked for.")
    rerank_api_key: SecretStr = Field(default=SecretStr(""), description="The endpoint's key.")
    rerank_seconds: float = Field(default=3, gt=0, description="How long it may take; then the fused order stays.")
    rerank_threshold: float | None = Field(
        default=None,
        description="The least score of the endpoint's best chunk, in place of evidence_threshold; below it nothing is "
        "answered. Default: the endpoint only orders.",
    )
    diversity: float = Field(
        default=0.3, ge=0, le=1, description="What likeness to a better chunk counts against a chunk; 0 is nothing."
    )
    evidence_threshold: float = Field(
        default=0.71,
        ge=0,
        le=1,
        description="The least probability that the chunks found answer the question; below it nothing is answered.",
    )
    evidence_threshold_large: float = Field(
        default=0.17,
        ge=0,
        le=1,
        description="The same where a large model answers, which says itself when excerpts do not; at most the other.",
    )

    parse_seconds: float = Field(
        default=45, gt=0, description="Time to read a document; every finished page adds parse_seconds_per_page."
    )
    parse_seconds_per_page: float = Field(default=0.2, ge=0)
    parse_memory_mb: int = Field(
        default=1024, ge=128, description="Address space of the process that reads a document."
    )
    parse_max_pages: int = Field(default=5000, ge=1)
    parse_max_characters: int = Field(default=20_000_000, ge=1, description="Text taken from one document at the most.")

    ocr: Literal["auto", "off"] = Field(
        default="auto", description="Recognise the text of scanned pages: auto does when Tesseract is installed."
    )
    ocr_languages: str = Field(
        default="eng", pattern=r"^[a-zA-Z_]+(\+[a-zA-Z_]+)*$", description="Tesseract's languages: eng+deu."
    )
    ocr_seconds_per_page: float = Field(default=60, gt=0)
    ocr_max_pages: int = Field(default=500, ge=0, description="Pages of a document that are recognised at the most.")

    ingestions: int = Field(default=2, ge=1, le=64, description="Documents that are ingested at the same time.")

    @property
    def graph(self) -> Graph:
        """How the index of a new vector store is built and searched."""
        return Graph(self.index_links, self.index_build, self.index_search)

    @property
    def parse_limits(self) -> ParseLimits:
        """What reading a document may use."""
        return ParseLimits(
            self.parse_seconds,
            self.parse_seconds_per_page,
            self.parse_memory_mb,
            self.parse_max_pages,
            self.parse_max_characters,
            self.tesseract,
            self.ocr_languages,
            self.ocr_seconds_per_page,
            self.ocr_max_pages,
        )

    @property
    def evidence_thresholds(self) -> Thresholds:
        """From which evidence on what kind of model answers."""
        return Thresholds(self.evidence_threshold, min(self.evidence_threshold, self.evidence_threshold_large))

    @property
    def tesseract(self) -> str:
        """The path of Tesseract; empty when it is not installed or not wanted."""
        return (shutil.which("tesseract") or "") if self.ocr == "auto" else ""

    @model_validator(mode="after")
    def _endpoint_has_an_address(self) -> Self:
        if self.reranker == "endpoint" and not self.rerank_url:
            raise ValueError("TUNESMITH_RERANKER=endpoint needs TUNESMITH_RERANK_URL, a server with /v1/rerank")
        return self
