"""The vectors of all chunks, in Chroma, which a process of its own has (`index_process.py`).

A vector store is a collection there, a chunk an entry. Entries are named `<document id>:<chunk index>`, so that writing
them again changes nothing. What a chunk says, its page, and what is known of its document are in `lexical.py`. Chroma
knows nothing about what may be seen: which documents are complete is in the database, and `retrieve.py` asks both.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tunesmith_rag.damage import DAMAGED, damaged
from tunesmith_rag.index_process import IndexProcess
from tunesmith_rag.near import Matrix, Near
from tunesmith_rag.neighbours import USUAL, Graph
from tunesmith_shared.errors import Unavailable
from tunesmith_shared.tables import Document

Filter = Mapping[str, Any]
"""A condition on chunks, in the form that `filters.py` makes and understands."""

DOCUMENT, FILE, FILENAME, PAGE, INDEX = "document", "file_id", "filename", "page", "index"
"""The keys of what is known of a chunk; a person's attributes are beside them under `attribute_key`."""

FILTERABLE = {FILE, FILENAME, PAGE, INDEX}
"""The own keys that a search may filter on, and that no attribute may be named like."""

OWN_PREFIX = "vs-"
"""How the ids of vector stores begin; a Chroma server can hold other collections."""

_SIFTED = 4
"""So many times as many chunks as are wanted are asked for where those that may be given are a good part of them."""


def attribute_key(key: str) -> str:
    """Return the key under which the attribute `key` of a document is kept with its chunks."""
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


class Calls(Protocol):
    """Where Chroma is called."""

    async def call(self, name: str, *arguments: Any) -> Any:
        """Return what the method `name` of `Vectors` gives; raises as `Vectors.call` does."""

    async def start_anew(self) -> None:
        """Empty Chroma, whether it can be read or not."""

    async def close(self) -> None:
        """Finish what was asked, then let go of Chroma."""


async def open_index(chroma_url: str, data_dir: Path, graph: Graph = USUAL) -> "ChunkIndex":
    """Open the index: at the Chroma server at `chroma_url`, or in `<data_dir>/chroma` when there is none.

    Raises `Conflict` when another process has the folder, and `Unavailable` when the server does not answer.
    """
    process = IndexProcess(chroma_url, data_dir, graph)
    await process.start()
    return ChunkIndex(process)


class ChunkIndex:
    """The vectors of all stores. Calls raise `Unavailable` when Chroma cannot read its files or does not answer."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._damage: Unavailable | None = None

    async def add(self, store_id: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]]) -> None:
        """Write the vectors of chunks of one document; over those that are there already."""
        names, matrix = [chunk.id for chunk in chunks], np.asarray(vectors, np.float32)
        await self._call("add", store_id, names, chunks[0].document_id, matrix)

    async def search(
        self, store_id: str, vectors: Matrix, count: int, among: Sequence[str] | None = None
    ) -> list[list[Near]]:
        """Return for each vector its `count` nearest chunks, nearest first, all in one query.

        With `among` only chunks of these ids are found; ids that are not there are left out. A store without chunks
        gives empty lists. Which chunks fulfil a condition is not Chroma's to say: it takes many times as long for that
        as for the query (20 ms at 20,000 chunks, of which a half fulfil it).
        """
        if among is not None and not among:
            return [[] for _ in vectors]
        rows = await self._call("search", store_id, vectors, count, None if among is None else list(among))
        return [[_near(*found) for found in zip(*row, strict=True)] for row in rows]

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
        await self._call("remove_document", store_id, document_id)

    async def remove_store(self, store_id: str) -> None:
        """Remove a vector store with all its chunks; it is no error when it is not there."""
        await self._call("remove_store", store_id)

    async def count(self, store_id: str, document_id: str) -> int:
        """Return how many chunks of a document there are, visible or not."""
        return int(await self._call("count", store_id, document_id))

    async def vectors(self, store_id: str, chunk_ids: Sequence[str]) -> dict[str, Matrix]:
        """Return the vectors of those of the chunks that there are."""
        if not chunk_ids:
            return {}
        return dict(zip(*await self._call("vectors", store_id, list(chunk_ids)), strict=True))

    async def sizes(self) -> dict[str, int]:
        """Return the number of chunks of every vector store that has any."""
        return dict(await self._call("sizes"))

    async def check(self) -> None:
        """Raise when Chroma does not answer, or was found damaged since it was opened."""
        if self._damage is not None:
            raise self._damage.with_traceback(None)
        await self._call("heartbeat")

    async def verify(self, store_id: str, least: int) -> None:
        """Raise `Unavailable` when a store has less than `least` chunks or does not find those that it has.

        From then on `check` raises, too, until the index is begun anew.
        """
        if defect := await self._call("defect", store_id, least):
            self._damage = damaged(defect)
        if self._damage is not None:
            raise self._damage.with_traceback(None)

    async def start_anew(self) -> None:
        """Empty the index, whether it can be read or not."""
        await self._calls.start_anew()
        self._damage = None

    async def close(self) -> None:
        """Finish what was asked, then let go of Chroma."""
        await self._calls.close()

    async def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return await self._calls.call(name, *arguments)
        except Unavailable as error:
            if error.code == DAMAGED:
                self._damage = error
            raise


def _near(name: str, similarity: float) -> Near:
    document_id, _, index = name.rpartition(":")
    return Near(document_id, int(index), similarity)
