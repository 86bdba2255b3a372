"""The calls on Chroma, in the process that has it (`index_child.py`): one collection a store, one entry a chunk.

Arguments and results are what can be sent to another process, and errors are ours. Several threads may call at once.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import chromadb.errors
import httpx
import numpy as np
from chromadb.api import ClientAPI
from chromadb.api.collection_configuration import CreateCollectionConfiguration, HNSWConfiguration
from chromadb.api.models.Collection import Collection
from chromadb.api.types import Metadata

from tunesmith_rag import nearest
from tunesmith_rag.damage import damaged
from tunesmith_rag.index import OWN_PREFIX
from tunesmith_rag.near import Matrix
from tunesmith_rag.nearest import Row
from tunesmith_rag.neighbours import USUAL, Graph
from tunesmith_shared.errors import Unavailable

T = TypeVar("T")

_DOCUMENT = "document"
"""All that is said of a chunk: its document. Its text and page took as much time to write as its vector, which Chroma
writes several times.
"""

_BATCH = 1000
_PROBED = 10


class Chroma(Protocol):
    """A Chroma database, wherever it runs."""

    trace: str
    """What went wrong when it was opened; empty when nothing did."""

    @property
    def client(self) -> ClientAPI:
        """Chroma's client; raises `Unavailable` when there is none."""

    def close(self) -> None:
        """Let go of it."""


class Vectors:
    """What `ChunkIndex` asks, under the same names; it says what each call means."""

    def __init__(self, chroma: Chroma, graph: Graph = USUAL) -> None:
        self._chroma = chroma
        self._graph = graph

    def call(self, name: str, *arguments: Any) -> Any:
        """Call the method `name`.

        Raises `Unavailable` when Chroma's files cannot be read, or its server does not answer.
        """
        try:
            return getattr(self, name)(*arguments)
        except chromadb.errors.InternalError as error:
            raise damaged(str(error)) from error
        except (ConnectionError, httpx.TransportError) as error:
            raise Unavailable(f"The vector database does not answer: {error}", retry_after=5) from error

    def add(self, store_id: str, chunk_ids: Sequence[str], document_id: str, vectors: Matrix) -> None:
        """Write the vectors [chunks, dimension] of chunks of one document."""
        facts: list[Metadata] = [{_DOCUMENT: document_id} for _ in chunk_ids]
        self._made(store_id).upsert(ids=list(chunk_ids), embeddings=vectors, metadatas=facts)

    def search(self, store_id: str, vectors: Matrix, count: int, among: Sequence[str] | None) -> list[Row]:
        """Return for each vector the `count` nearest chunks, of those in `among` if that is given."""

        def read(collection: Collection) -> list[Row]:
            if among is not None and len(among) ** 2 <= nearest.COMPARED * collection.count():
                return nearest.compared(collection, vectors, count, among)
            return nearest.nearest(collection, vectors, count, among)

        return self._in(store_id, read, [([], []) for _ in vectors])

    def remove_document(self, store_id: str, document_id: str) -> None:
        """Remove all chunks of a document."""

        def remove(collection: Collection) -> None:
            # In slices: Chroma takes a limited number of records in one call.
            while ids := collection.get(where={_DOCUMENT: document_id}, limit=_BATCH, include=[])["ids"]:
                collection.delete(ids=ids)

        self._in(store_id, remove, None)

    def remove_store(self, store_id: str) -> None:
        """Remove a store with all its chunks."""
        try:
            self._chroma.client.delete_collection(store_id)
        except chromadb.errors.NotFoundError:
            return

    def count(self, store_id: str, document_id: str) -> int:
        """Return how many chunks of a document there are."""
        return self._in(store_id, lambda collection: len(_chunks_of(collection, document_id)), 0)

    def vectors(self, store_id: str, chunk_ids: Sequence[str]) -> tuple[list[str], Matrix]:
        """Return those of the ids that there are, and their vectors as rows."""

        def read(collection: Collection) -> tuple[list[str], Matrix]:
            found = collection.get(ids=list(chunk_ids), include=["embeddings"])
            return found["ids"], np.asarray(cast("Any", found["embeddings"]), np.float32)

        nothing: tuple[list[str], Matrix] = ([], np.empty((0, 0), np.float32))
        return self._in(store_id, read, nothing)

    def sizes(self) -> dict[str, int]:
        """Return the number of chunks of every store that has any."""
        return {
            collection.name: collection.count()
            for collection in self._chroma.client.list_collections()
            if collection.name.startswith(OWN_PREFIX)
        }

    def heartbeat(self) -> None:
        """Raise when Chroma does not answer."""
        self._chroma.client.heartbeat()

    def defect(self, store_id: str, least: int) -> str:
        """Return what is wrong with a store that should have at least so many chunks; empty when nothing is."""
        try:
            collection = self._chroma.client.get_collection(store_id, embedding_function=None)
        except chromadb.errors.NotFoundError:
            return f"{store_id} has lost all its chunks" if least else ""
        count = collection.count()
        if count < least:
            return f"{store_id} has {count} of {least} chunks"
        vectors = cast("Any", collection.get(limit=1, include=["embeddings"])["embeddings"])
        wanted = min(count, _PROBED)
        found = collection.query(query_embeddings=vectors, n_results=wanted, include=[])["ids"] if wanted else []
        return f"{store_id} does not find its chunks" if wanted and len(found[0]) < wanted else ""

    def close(self) -> None:
        """Let go of Chroma."""
        self._chroma.close()

    def _made(self, store_id: str) -> Collection:
        """Return a store's collection, which is made when it is missing."""
        graph = self._graph
        hnsw = HNSWConfiguration(
            space="cosine", max_neighbors=graph.links, ef_construction=graph.build, ef_search=graph.search
        )
        return self._chroma.client.get_or_create_collection(
            store_id, embedding_function=None, configuration=CreateCollectionConfiguration(hnsw=hnsw)
        )

    def _in(self, store_id: str, call: Callable[[Collection], T], nothing: T) -> T:
        """Return what `call` gives; `nothing` when a store has no chunks, or is removed meanwhile."""
        try:
            return call(self._chroma.client.get_collection(store_id, embedding_function=None))
        except chromadb.errors.NotFoundError:
            return nothing


def _chunks_of(collection: Collection, document_id: str) -> list[str]:
    return collection.get(where={_DOCUMENT: document_id}, include=[])["ids"]
