"""The vectors of all chunks, in Chroma: one collection a vector store, one entry a chunk.

Entries are named `<document id>:<chunk index>`, so that writing them again changes nothing. Chroma knows nothing
about what may be seen: which documents are complete is in the database, and `retrieve.py` asks both.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import chromadb.errors
import httpx
import numpy as np
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection

from tunesmith_shared.errors import Unavailable

T = TypeVar("T")
Matrix = np.ndarray[Any, np.dtype[np.float32]]
Filter = Mapping[str, Any]
"""A condition on chunks in Chroma's `where` language."""

DOCUMENT, FILE, FILENAME, PAGE, INDEX = "document", "file_id", "filename", "page", "index"
"""The keys of a chunk's own metadata; a person's attributes are beside them under `attribute_key`."""

FILTERABLE = {FILE, FILENAME, PAGE, INDEX}
"""The own keys that a search may filter on, and that no attribute may be named like."""

_THREADS = 4
_BATCH = 1000


def attribute_key(key: str) -> str:
    """Return the metadata key under which the attribute `key` of a document is kept with its chunks."""
    return f"attribute:{key}"


@dataclass(frozen=True)
class Chunk:
    """A piece of one page of a document, as it is searched and cited. `page` and `index` count from 1 and 0."""

    document_id: str
    index: int
    page: int
    text: str

    @property
    def id(self) -> str:
        """The entry's name in the index."""
        return f"{self.document_id}:{self.index}"


@dataclass(frozen=True)
class Hit:
    """A chunk that a search found, and its vector."""

    chunk: Chunk
    vector: Matrix


class ChunkIndex:
    """Chroma, called from threads of its own so that no request waits on the event loop for it."""

    def __init__(self, client: ClientAPI, close: Callable[[], None]) -> None:
        self._client = client
        self._close = close
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="chroma")

    async def add(
        self, store_id: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]], facts: Mapping[str, Any]
    ) -> None:
        """Write `chunks` with their vectors and `facts` of their document; over those that are there already."""

        def write() -> None:
            self._collection(store_id).upsert(
                ids=[chunk.id for chunk in chunks],
                embeddings=np.asarray(vectors, dtype=np.float32),
                documents=[chunk.text for chunk in chunks],
                metadatas=[{**facts, DOCUMENT: c.document_id, PAGE: c.page, INDEX: c.index} for c in chunks],
            )

        await self._run(write)

    async def search(self, store_id: str, vectors: Matrix, count: int, where: Filter | None) -> list[list[Hit]]:
        """Return for each vector its `count` nearest chunks, nearest first, all in one query.

        A store without chunks gives empty lists.
        """

        def read() -> list[list[Hit]]:
            try:
                collection = self._client.get_collection(store_id, embedding_function=None)
            except chromadb.errors.NotFoundError:
                return [[] for _ in vectors]
            found = collection.query(
                query_embeddings=vectors,
                n_results=count,
                where=cast("Any", where),
                include=["documents", "metadatas", "embeddings"],
            )
            return [_hits(found, row) for row in range(len(vectors))]

        return await self._run(read)

    async def remove_document(self, store_id: str, document_id: str) -> None:
        """Remove all chunks of a document; it is no error when there are none."""

        def remove() -> None:
            try:
                collection = self._client.get_collection(store_id, embedding_function=None)
            except chromadb.errors.NotFoundError:
                return
            # In slices: Chroma takes a limited number of records in one call.
            while ids := collection.get(where={DOCUMENT: document_id}, limit=_BATCH, include=[])["ids"]:
                collection.delete(ids=ids)

        await self._run(remove)

    async def remove_store(self, store_id: str) -> None:
        """Remove a vector store with all its chunks; it is no error when it is not there."""

        def remove() -> None:
            try:
                self._client.delete_collection(store_id)
            except chromadb.errors.NotFoundError:
                return

        await self._run(remove)

    async def count(self, store_id: str, document_id: str) -> int:
        """Return how many chunks of a document there are, visible or not."""

        def count() -> int:
            try:
                collection = self._client.get_collection(store_id, embedding_function=None)
            except chromadb.errors.NotFoundError:
                return 0
            return len(collection.get(where={DOCUMENT: document_id}, include=[])["ids"])

        return await self._run(count)

    async def check(self) -> None:
        """Raise when Chroma does not answer."""
        await self._run(self._client.heartbeat)

    def close(self) -> None:
        """Wait for calls under way, then let go of the folder."""
        self._threads.shutdown(wait=True)
        self._close()

    def _collection(self, store_id: str) -> Collection:
        return self._client.get_or_create_collection(
            store_id, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except (chromadb.errors.InternalError, ConnectionError, httpx.TransportError) as error:
            raise Unavailable(f"The vector database does not answer: {error}", retry_after=5) from error


def _hits(found: Any, row: int) -> list[Hit]:
    entries = zip(found["metadatas"][row], found["documents"][row], found["embeddings"][row], strict=True)
    return [
        Hit(
            Chunk(str(facts[DOCUMENT]), int(facts[INDEX]), int(facts[PAGE]), text or ""), np.asarray(vector, np.float32)
        )
        for facts, text, vector in entries
    ]
