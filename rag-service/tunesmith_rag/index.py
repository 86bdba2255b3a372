"""The vectors of all chunks, in Chroma: one collection a vector store, one entry a chunk.

Entries are named `<document id>:<chunk index>`, so that writing them again changes nothing. Chroma knows nothing
about what may be seen: which documents are complete is in the database, and `retrieve.py` asks both.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import chromadb.errors
import httpx
import numpy as np
from chromadb.api import ClientAPI
from chromadb.api.models.Collection import Collection

from tunesmith_rag.damage import damaged
from tunesmith_rag.nearest import COMPARED, Matrix, Near, compared, nearest
from tunesmith_rag.neighbours import USUAL, Graph
from tunesmith_shared.errors import Unavailable
from tunesmith_shared.tables import Document

T = TypeVar("T")
Filter = Mapping[str, Any]
"""A condition on chunks, in the form that `filters.py` makes and understands."""

DOCUMENT, FILE, FILENAME, PAGE, INDEX = "document", "file_id", "filename", "page", "index"
"""The keys of a chunk's own metadata; a person's attributes are beside them under `attribute_key`."""

_TEXT = "text"
"""What a chunk says: no `document` of Chroma's, which goes into a full-text index of its own that nobody asks here and
that took a third of the time of adding a chunk.
"""

FILTERABLE = {FILE, FILENAME, PAGE, INDEX}
"""The own keys that a search may filter on, and that no attribute may be named like."""

OWN_PREFIX = "vs-"
"""How the ids of vector stores begin; a Chroma server can hold other collections."""

_THREADS = 4
_BATCH = 1000
_SIFTED = 4
"""So many times as many chunks as are wanted are asked for where those that may be given are a good part of them."""

_PROBED = 10


def attribute_key(key: str) -> str:
    """Return the metadata key under which the attribute `key` of a document is kept with its chunks."""
    return f"attribute:{key}"


def facts_of(document: Document, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every chunk of a document with these attributes says about it."""
    own = {attribute_key(key): value for key, value in attributes.items()}
    return {**own, FILE: document.file_id, FILENAME: document.filename}


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
        return chunk_id(self.document_id, self.index)


def chunk_id(document_id: str, index: int) -> str:
    """Return the name in the index of a document's chunk."""
    return f"{document_id}:{index}"


class Chroma(Protocol):
    """A Chroma database, wherever it runs."""

    @property
    def client(self) -> ClientAPI:
        """Chroma's client; raises `Unavailable` when there is none."""

    def start_anew(self) -> None:
        """Forget everything that is there, readable or not."""

    def close(self) -> None:
        """Let go of it."""


class ChunkIndex:
    """Chroma, called from threads of its own so that no request waits on the event loop for it."""

    def __init__(self, chroma: Chroma, graph: Graph = USUAL) -> None:
        self._chroma = chroma
        self._graph = graph
        self._damage = ""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="chroma")

    async def add(
        self, store_id: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]], facts: Mapping[str, Any]
    ) -> None:
        """Write `chunks` with their vectors and `facts` of their document; over those that are there already."""

        def write() -> None:
            self._collection(store_id).upsert(
                ids=[chunk.id for chunk in chunks],
                embeddings=np.asarray(vectors, dtype=np.float32),
                metadatas=[
                    {**facts, DOCUMENT: c.document_id, PAGE: c.page, INDEX: c.index, _TEXT: c.text} for c in chunks
                ],
            )

        await self._run(write)

    async def search(
        self, store_id: str, vectors: Matrix, count: int, among: Sequence[str] | None = None
    ) -> list[list[Near]]:
        """Return for each vector its `count` nearest chunks, nearest first, all in one query.

        With `among` only chunks of these ids are found; ids that are not there are left out. A store without chunks
        gives empty lists. Which chunks fulfil a condition is not Chroma's to say: it takes many times as long for that
        as for the query (20 ms at 20,000 chunks, of which a half fulfil it).
        """
        nothing: list[list[Near]] = [[] for _ in vectors]

        def read(collection: Collection) -> list[list[Near]]:
            if among is not None and len(among) ** 2 <= COMPARED * collection.count():
                return compared(collection, vectors, count, among)
            return nearest(collection, vectors, count, among)

        return nothing if among is not None and not among else await self._in(store_id, read, nothing)

    async def sifted(
        self, store_id: str, vectors: Matrix, count: int, document_ids: Set[str]
    ) -> list[list[Near]] | None:
        """Return for each vector its `count` nearest chunks of these documents; None when there are too few of them
        among the nearest of all.
        """
        rows = await self.search(store_id, vectors, _SIFTED * count)
        kept = [[near for near in row if near.document_id in document_ids][:count] for row in rows]
        return kept if all(len(row) == count for row in kept) else None

    async def remove_document(self, store_id: str, document_id: str) -> None:
        """Remove all chunks of a document; it is no error when there are none."""

        def remove(collection: Collection) -> None:
            # In slices: Chroma takes a limited number of records in one call.
            while ids := collection.get(where={DOCUMENT: document_id}, limit=_BATCH, include=[])["ids"]:
                collection.delete(ids=ids)

        await self._in(store_id, remove, None)

    async def remove_store(self, store_id: str) -> None:
        """Remove a vector store with all its chunks; it is no error when it is not there."""

        def remove() -> None:
            try:
                self._chroma.client.delete_collection(store_id)
            except chromadb.errors.NotFoundError:
                return

        await self._run(remove)

    async def count(self, store_id: str, document_id: str) -> int:
        """Return how many chunks of a document there are, visible or not."""

        def count(collection: Collection) -> int:
            return len(collection.get(where={DOCUMENT: document_id}, include=[])["ids"])

        return await self._in(store_id, count, 0)

    async def vectors(self, store_id: str, chunk_ids: Sequence[str]) -> dict[str, Matrix]:
        """Return the vectors of those of the chunks that there are."""

        def read(collection: Collection) -> dict[str, Matrix]:
            found = collection.get(ids=list(chunk_ids), include=["embeddings"])
            vectors = cast("Any", found["embeddings"])
            return {name: np.asarray(row, np.float32) for name, row in zip(found["ids"], vectors, strict=True)}

        return await self._in(store_id, read, {}) if chunk_ids else {}

    async def describe(self, store_id: str, document_id: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Replace the facts `old` of a document's chunks by `new`; no effect when it has none."""
        changes = {**dict.fromkeys(old), **new}

        def write(collection: Collection) -> None:
            ids = collection.get(where={DOCUMENT: document_id}, include=[])["ids"]
            for start in range(0, len(ids), _BATCH):
                part = ids[start : start + _BATCH]
                collection.update(ids=part, metadatas=[cast("Any", changes)] * len(part))

        if changes:
            await self._in(store_id, write, None)

    async def sizes(self) -> dict[str, int]:
        """Return the number of chunks of every vector store that has any."""
        return await self._run(
            lambda: {
                collection.name: collection.count()
                for collection in self._chroma.client.list_collections()
                if collection.name.startswith(OWN_PREFIX)
            }
        )

    async def contents(self, store_id: str) -> AsyncIterator[list[tuple[Chunk, dict[str, Any]]]]:
        """Yield the chunks of a store with the facts of their documents, `_BATCH` at a time."""
        collection = await self._run(lambda: self._chroma.client.get_collection(store_id, embedding_function=None))
        start = 0
        while batch := await self._run(partial(_batch, collection, start)):
            yield batch
            start += len(batch)

    async def check(self) -> None:
        """Raise when Chroma does not answer, or was found damaged since it was opened."""
        if self._damage:
            raise damaged(self._damage)
        await self._run(self._chroma.client.heartbeat)

    async def verify(self, store_id: str, least: int) -> None:
        """Raise `Unavailable` when a store has less than `least` chunks or does not find those that it has.

        From then on `check` raises, too, until the index is begun anew.
        """

        def look() -> str:
            if (collection := self._existing(store_id)) is None:
                return f"{store_id} has lost all its chunks" if least else ""
            count = collection.count()
            if count < least:
                return f"{store_id} has {count} of {least} chunks"
            vectors = cast("Any", collection.get(limit=1, include=["embeddings"])["embeddings"])
            wanted = min(count, _PROBED)
            found = collection.query(query_embeddings=vectors, n_results=wanted, include=[])["ids"] if wanted else []
            return f"{store_id} does not find its chunks" if wanted and len(found[0]) < wanted else ""

        self._damage = await self._run(look) or self._damage
        if self._damage:
            raise damaged(self._damage)

    async def start_anew(self) -> None:
        """Empty the index, whether it can be read or not."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._chroma.start_anew)
        self._damage = ""

    def close(self) -> None:
        """Wait for calls under way, then let go of the folder."""
        self._threads.shutdown(wait=True)
        self._chroma.close()

    def _collection(self, store_id: str) -> Collection:
        configuration = self._graph.configuration
        return self._chroma.client.get_or_create_collection(
            store_id, embedding_function=None, configuration=configuration
        )

    def _existing(self, store_id: str) -> Collection | None:
        try:
            return self._chroma.client.get_collection(store_id, embedding_function=None)
        except chromadb.errors.NotFoundError:
            return None

    async def _in(self, store_id: str, call: Callable[[Collection], T], nothing: T) -> T:
        """Return what `call` gives; `nothing` when a store has no chunks, or is removed meanwhile."""

        def run() -> T:
            try:
                return call(self._chroma.client.get_collection(store_id, embedding_function=None))
            except chromadb.errors.NotFoundError:
                return nothing

        return await self._run(run)

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except chromadb.errors.InternalError as error:
            self._damage = str(error)
            raise damaged(self._damage) from error
        except (ConnectionError, httpx.TransportError) as error:
            raise Unavailable(f"The vector database does not answer: {error}", retry_after=5) from error


def _batch(collection: Collection, start: int) -> list[tuple[Chunk, dict[str, Any]]]:
    found = collection.get(limit=_BATCH, offset=start, include=["documents", "metadatas"])
    batch = []
    for metadata, document in zip(found["metadatas"] or [], found["documents"] or [], strict=True):
        facts: dict[str, Any] = dict(metadata)
        text = facts.pop(_TEXT, document or "")  # written before it was metadata, it is Chroma's `document`
        batch.append((Chunk(facts.pop(DOCUMENT), facts.pop(INDEX), facts.pop(PAGE), text), facts))
    return batch
