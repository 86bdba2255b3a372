"""The two indexes that a search stands on, kept in step: meaning (`index.py`) and words (`lexical.py`)."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from itertools import groupby
from typing import Any

from tunesmith_rag.index import Chunk, ChunkIndex, Filter
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.nearest import Matrix, Near

_logger = logging.getLogger(__name__)

_GOOD_PART = 0.25
"""The share of all documents from which on their chunks are looked for among the nearest of all."""


class Legs:
    """Writes to both indexes. Each call can be repeated, and a call that was cut off is put right by `repair`."""

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
        await self.dense.add(store_id, chunks, vectors, facts)
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

    async def describe(self, store_id: str, document_id: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Replace the facts `old` of a document by `new`, so that searches filter on these."""
        await self.dense.describe(store_id, document_id, old, new)
        await self.lexical.describe(store_id, document_id, new)

    async def remove_document(self, store_id: str, document_id: str) -> None:
        """Remove all chunks of a document; it is no error when there are none."""
        await self.lexical.remove_document(store_id, document_id)
        await self.dense.remove_document(store_id, document_id)

    async def remove_store(self, store_id: str) -> None:
        """Remove a vector store with all its chunks; it is no error when it is not there."""
        await self.lexical.remove_store(store_id)
        await self.dense.remove_store(store_id)

    async def check(self) -> None:
        """Raise when the vector database does not answer."""
        await self.dense.check()

    async def verify(self, sizes: Mapping[str, int]) -> None:
        """Raise `Unavailable` when a store has lost chunks; `sizes` has how many each has at least."""
        for store_id, least in sizes.items():
            await self.dense.verify(store_id, least)

    async def start_anew(self) -> None:
        """Empty both indexes, whether they can be read or not."""
        await self.dense.start_anew()
        for store_id in await self.lexical.stores():
            await self.lexical.remove_store(store_id)

    async def repair(self) -> None:
        """Bring the words in step with the vectors, store by store. Call before anything else writes.

        What is rebuilt: the words of stores from before there was a full-text index, a file that is damaged, and what
        a kill between two writes left different.
        """
        sizes = await self.dense.sizes()
        for store_id in await self.lexical.stores() - sizes.keys():
            await self.lexical.remove_store(store_id)
        for store_id, size in sizes.items():
            if await self.lexical.count(store_id) != size:
                _logger.info("rebuilding the full-text index of %s: %d chunks", store_id, size)
                await self._rebuild(store_id)

    async def _rebuild(self, store_id: str) -> None:
        await self.lexical.remove_store(store_id)
        async for batch in self.dense.contents(store_id):
            for _, group in groupby(batch, key=lambda entry: entry[0].document_id):
                entries = list(group)
                await self.lexical.add(store_id, [chunk for chunk, _ in entries], entries[0][1])

    def close(self) -> None:
        """Wait for calls under way, then let go of both."""
        self.lexical.close()
        self.dense.close()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`, which threads go on with whatever becomes of the task, also when this is cancelled meanwhile."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
