"""The two indexes that a search stands on, kept in step: meaning (`index.py`) and words (`lexical.py`)."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from tunesmith_rag.index import Chunk, ChunkIndex, Filter
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.near import Matrix, Near

_GOOD_PART = 0.25
"""The share of all documents from which on their chunks are looked for among the nearest of all."""


class Legs:
    """Writes to both indexes. Each call can be repeated, and puts right what one that was cut off left."""

    def __init__(self, dense: ChunkIndex, lexical: LexicalIndex) -> None:
        self.dense = dense
        self.lexical = lexical

    async def add(
        self, store_id: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]], facts: Mapping[str, Any]
    ) -> None:
        """Write chunks of one document with their vectors and its `facts`; over those that are there already.

        When it is cancelled, it ends after the write, so that what is removed from then on stays removed.
        """
        await _to_the_end(self._add(store_id, chunks, vectors, facts))

    async def _add(
        self, store_id: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float]], facts: Mapping[str, Any]
    ) -> None:
        await self.dense.add(store_id, chunks, vectors)
        await self.lexical.add(store_id, chunks, facts)

    async def nearest(self, store_id: str, vectors: Matrix, count: int, where: Filter | None) -> list[list[Near]]:
        """Return for each vector the `count` nearest chunks that fulfil the condition, nearest first.

        Where a good part of the documents does, they are looked for among the nearest of all first.
        """
        if where is None:
            return await self.dense.search(store_id, vectors, count)
        documents = await self.lexical.documents(store_id, where)
        if documents is not None and documents.share >= _GOOD_PART:
            rows = await self.dense.sifted(store_id, vectors, count, documents.ids)
            if rows is not None:
                return rows
        return await self.dense.search(store_id, vectors, count, await self.lexical.among(store_id, where))

    async def describe(self, store_id: str, document_id: str, facts: Mapping[str, Any]) -> None:
        """Replace the facts of a document, so that searches filter on these."""
        await self.lexical.describe(store_id, document_id, facts)

    async def remove_document(self, store_id: str, document_id: str) -> None:
        """Remove all chunks of a document; it is no error when there are none."""
        await self.lexical.remove_document(store_id, document_id)
        await self.dense.remove_document(store_id, document_id)

    async def remove_store(self, store_id: str) -> None:
        """Remove a vector store with all its chunks; it is no error when it is not there."""
        await self.lexical.remove_store(store_id)
        await self.dense.remove_store(store_id)

    async def check(self) -> None:
        """Raise when the vector database does not answer, or one of the two was found damaged."""
        await self.dense.check()
        self.lexical.check()

    async def verify(self, sizes: Mapping[str, int]) -> None:
        """Raise `Unavailable` when a store has lost chunks; `sizes` has how many each has at least.

        From then on `check` raises, too, until the indexes are begun anew.
        """
        for store_id, least in sizes.items():
            await self.dense.verify(store_id, least)
            await self.lexical.verify(store_id, least)

    async def start_anew(self) -> None:
        """Empty both indexes, whether they can be read or not."""
        await self.dense.start_anew()
        await self.lexical.start_anew()

    async def tidy(self) -> None:
        """Remove the words of stores that have no vectors any more. Call before anything else writes."""
        for store_id in await self.lexical.stores() - (await self.dense.sizes()).keys():
            await self.lexical.remove_store(store_id)

    async def close(self) -> None:
        """Wait for calls under way, then let go of both."""
        await asyncio.to_thread(self.lexical.close)
        await self.dense.close()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`, which threads go on with whatever becomes of the task, also when this is cancelled meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
