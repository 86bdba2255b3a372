"""The application: what it opens, in which order, and closes again."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import anyio
from fastapi import FastAPI

from tunesmith_rag import endpoints, jobs, runtime, watch
from tunesmith_rag.batches import Batches
from tunesmith_rag.embed import OllamaEmbedder
from tunesmith_rag.embed_choice import ChosenEmbedder
from tunesmith_rag.embed_openvino import OpenVinoEmbedder
from tunesmith_rag.fingerprint import Fingerprints
from tunesmith_rag.index import open_index
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.parsers import Parsers
from tunesmith_rag.repository import Documents
from tunesmith_rag.rerank import FusedOrder, RerankEndpoint, Reranker, WordsAndMeaning
from tunesmith_rag.resources import Resources
from tunesmith_rag.retrieve import Defaults, Retriever
from tunesmith_rag.rewrite import Rewriter
from tunesmith_rag.service import VectorStores
from tunesmith_rag.settings import RagSettings
from tunesmith_rag.uses import Uses
from tunesmith_rag.versions import Wording
from tunesmith_shared import durable
from tunesmith_shared.app import create_service
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Unavailable
from tunesmith_shared.files import FileStore

_logger = logging.getLogger(__name__)


def create_app(settings: RagSettings) -> FastAPI:
    """Return the rag-service's application; nothing is opened before it starts."""
    return create_service(
        "rag-service",
        settings,
        _lifespan,
        [endpoints.router],
        checks={"database": _check_database, "index": _check_index},
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: RagSettings = app.state.settings
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url)
        stack.push_async_callback(database.close)
        dense = await open_index(settings.chroma_url, settings.data_dir, settings.graph)
        index = Legs(dense, LexicalIndex(settings.data_dir / "lexical"))
        stack.push_async_callback(index.close)
        await _inspect(index, database)
        embedder = _embedder(settings)
        stack.push_async_callback(embedder.close)
        rewriter = Rewriter(settings.ollama_host, settings.rewrite_count, settings.rewrite_seconds)
        stack.push_async_callback(rewriter.close)
        parsers = Parsers(settings.parse_limits)
        stack.push_async_callback(parsers.close)
        uses = Uses(database)
        stack.push_async_callback(uses.close)
        files = FileStore(settings.files_path)
        resources = Resources(settings, database, files, index, embedder, parsers, Fingerprints(embedder), uses)
        reranker = _reranker(settings)
        stack.push_async_callback(reranker.close)
        wording = Wording(
            embedder, rewriter, patience=settings.query_wait_seconds, closest=settings.rewrite_min_similarity
        )
        defaults = Defaults(reranker, settings.diversity, settings.evidence_thresholds)
        retriever = Retriever(database, index, wording, defaults)
        app.state.resources = resources
        app.state.vector_stores = VectorStores(resources, retriever)
        app.state.batches = Batches(database, app.state.vector_stores)
        await stack.enter_async_context(_workflows(resources))
        await parsers.prepare()
        await stack.enter_async_context(_loading(embedder, settings.embedding_model))
        yield


def _reranker(settings: RagSettings) -> Reranker:
    if settings.reranker == "endpoint":
        key = settings.rerank_api_key.get_secret_value()
        return RerankEndpoint(
            settings.rerank_url, settings.rerank_model, key, settings.rerank_seconds, settings.rerank_threshold
        )
    return WordsAndMeaning() if settings.reranker == "words" else FusedOrder()


@asynccontextmanager
async def _workflows(resources: Resources) -> AsyncIterator[None]:
    """Run DBOS on this event loop: it adopts the loop in which it is launched, and the database belongs to it."""
    runtime.use(resources)
    durable.launch(resources.settings, "rag")
    await jobs.open_queue(resources.settings.ingestions)
    watcher = asyncio.create_task(watch.watch(resources))
    try:
        yield
    finally:
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher
        await runtime.interrupt()
        # In a thread: it waits for threads that wait for this loop.
        await anyio.to_thread.run_sync(durable.shut_down, resources.settings, "rag")


@asynccontextmanager
async def _loading(embedder: ChosenEmbedder, model: str) -> AsyncIterator[None]:
    """Load the embedding model beside everything else, so that the first document or search need not wait for it."""

    async def load() -> None:
        try:
            await embedder.prepare(model)
        except Exception:
            _logger.exception("the embedding model %s could not be loaded; what needs it first tries again", model)

    loading = asyncio.create_task(load())
    try:
        yield
    finally:
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading


async def _inspect(index: Legs, database: Database) -> None:
    """See whether the indexes have what the database says.

    A damaged index stops nothing: `/health` and every search say so, until it is rebuilt.
    """
    async with database.session() as session:
        sizes = await Documents(session).sizes()
    try:
        await index.verify(sizes)
        await index.tidy()
    except Unavailable as error:
        _logger.error("%s", error.message)


def _embedder(settings: RagSettings) -> ChosenEmbedder:
    longest, batch = settings.embedding_max_tokens, settings.embedding_batch
    return ChosenEmbedder(
        settings.embedder,
        OpenVinoEmbedder(longest, batch, settings.embedding_threads),
        OllamaEmbedder(settings.ollama_host, longest, batch),
    )


async def _check_database(app: FastAPI) -> None:
    await app.state.resources.database.check()


async def _check_index(app: FastAPI) -> None:
    await app.state.resources.index.check()
