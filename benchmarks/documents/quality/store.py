"""One vector store with all example documents, filled as an ingestion fills it, and a retriever over it."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.documents.quality.questions import EXAMPLES, SOURCES

from tunesmith_rag.embed_openvino import OpenVinoEmbedder
from tunesmith_rag.index import Chunk, open_index
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.pdf import read_pages
from tunesmith_rag.rerank import WordsAndMeaning
from tunesmith_rag.retrieve import Defaults, Retriever
from tunesmith_rag.rewrite import Rewriter
from tunesmith_rag.rewrite import Versions as Rewritten
from tunesmith_rag.settings import RagSettings
from tunesmith_rag.split import effective_chunking, page_splitter
from tunesmith_rag.versions import Wording
from tunesmith_shared.database import Database
from tunesmith_shared.settings import async_database_url
from tunesmith_shared.tables import Document, VectorStore
from tunesmith_shared.testing import Platform

STORE = VectorStore(
    id="vs-benchmark", owner="me", name="", embedding_model="all-minilm", details={}, created_at=1, last_active_at=1
)


def render_all(folder: Path) -> dict[str, Path]:
    """Render every document into `folder`; return the PDFs by name."""
    spec = importlib.util.spec_from_file_location("render", EXAMPLES / "render.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: folder / f"{name}.pdf" for name in SOURCES}
    for name, path in made.items():
        path.write_bytes(module.render(SOURCES[name].read_text(encoding="utf-8")))
    return made


@dataclass
class RecordingRewriter(Rewriter):
    """The real rewriter, which asks the model once a question, so that searches after that are timed without it."""

    real: Rewriter
    written: dict[str, Rewritten] = field(default_factory=dict)

    async def versions(self, question: str, model: str, count: int | None = None) -> Rewritten:
        """Return what the model wrote for `question` the first time."""
        if question not in self.written:
            self.written[question] = await self.real.versions(question, model, count)
        return self.written[question]

    async def close(self) -> None:
        """Close the real one."""
        await self.real.close()


@dataclass(frozen=True)
class Library:
    """The filled store, ready to be searched."""

    retriever: Retriever
    rewriter: RecordingRewriter
    legs: Legs
    embedder: OpenVinoEmbedder
    chunks: dict[str, Chunk]


@asynccontextmanager
async def library(folder: Path, platform: Platform) -> AsyncIterator[Library]:
    """Give the store with all documents, in `folder`; the engine of `platform` rewrites."""
    settings = RagSettings(data_dir=folder)
    url = platform.services["engine"].url
    database = Database(async_database_url(platform.environment["TUNESMITH_DATABASE_URL"]))
    embedder = OpenVinoEmbedder(settings.embedding_max_tokens, settings.embedding_batch, settings.embedding_threads)
    legs = Legs(await open_index("", folder / "index"), LexicalIndex(folder / "index" / "lexical"))
    rewriter = RecordingRewriter(Rewriter(url, settings.rewrite_count, 60))
    wording = Wording(embedder, rewriter, patience=60, closest=settings.rewrite_min_similarity)
    defaults = Defaults(WordsAndMeaning(), settings.diversity, settings.evidence_thresholds)
    retriever = Retriever(database, legs, wording, defaults)
    async with database.session() as session:
        session.add(STORE)
    chunks: dict[str, Chunk] = {}
    for name, path in render_all(folder / "documents").items():
        chunks |= {chunk.id: chunk for chunk in await _ingest(legs, embedder, database, name, path)}
    try:
        yield Library(retriever, rewriter, legs, embedder, chunks)
    finally:
        await rewriter.close()
        await embedder.close()
        await database.close()
        await legs.close()


async def _ingest(legs: Legs, embedder: OpenVinoEmbedder, database: Database, name: str, path: Path) -> list[Chunk]:
    """Put one document into the store; its id is its name."""
    model = await embedder.model(STORE.embedding_model, 60)
    split = page_splitter(effective_chunking({"type": "auto"}, model.max_tokens), model.count)
    texts = [(page.number, text) for page in read_pages(path, 100) for text in split(page.text)]
    chunks = [Chunk(name, number, page, text) for number, (page, text) in enumerate(texts)]
    vectors = await embedder.embed(STORE.embedding_model, [chunk.text for chunk in chunks], 60)
    await legs.add(STORE.id, chunks, vectors, {"filename": path.name, "file_id": name})
    async with database.session() as session:
        session.add(
            Document(
                id=name, owner="me", vector_store_id=STORE.id, file_id=name, sha256=name, filename=path.name,
                status="completed", created_at=1, updated_at=1,
            )
        )  # fmt: skip
    return chunks
