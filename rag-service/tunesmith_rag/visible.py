"""What the two indexes find among documents that may be seen: the database decides, before and after they are asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_rag.bm25 import WordHit
from tunesmith_rag.index import Chunk, Filter
from tunesmith_rag.legs import Legs
from tunesmith_rag.near import Matrix, Near
from tunesmith_rag.repository import Documents
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Unavailable
from tunesmith_shared.tables import Document, VectorStore

_ATTEMPTS = 5


@dataclass(frozen=True)
class Hit:
    """A chunk that is near to a vector, and its cosine similarity."""

    chunk: Chunk
    similarity: float


@dataclass(frozen=True)
class Found:
    """The hits of every version by meaning, of every question as asked by words, the documents they are from, and how
    many documents are on their way and cannot be found yet.
    """

    dense: list[list[Hit]]
    lexical: list[list[WordHit]]
    documents: dict[str, Document]
    coming: int


class Finder:
    """Asks both indexes of a store at once."""

    def __init__(self, database: Database, index: Legs) -> None:
        self._database = database
        self._index = index

    async def find(
        self, store: VectorStore, vectors: Matrix, texts: Sequence[str], depth: int, where: Filter | None
    ) -> Found:
        """Return the `depth` best hits of each vector and of each text among completed documents, and these documents.

        When a document came or went between the looks at the database, the answer would mix two states and is asked
        for again. The first try has no condition on documents, because one costs more than the query; only when hidden
        chunks took places is it added.
        """
        before = await self._hidden(store.id)
        condition = where
        for _ in range(_ATTEMPTS):
            dense, lexical = await asyncio.gather(
                self._index.nearest(store.index, vectors, depth, condition),
                self._index.lexical.search(store.index, texts, depth, condition),
            )
            found = {near.document_id for row in dense for near in row}
            found |= {hit.chunk.document_id for hits in lexical for hit in hits}
            async with self._database.session() as session:
                documents = await Documents(session).completed(found)
                after = await Documents(session).hidden(store.id)
            if after == before and found <= documents.keys():
                coming = sum(status == "in_progress" for status in after.values())
                return Found(await self._told(store.index, dense), lexical, documents, coming)
            before, condition = after, _without(where, after.keys() | (found - documents.keys()))
        raise Unavailable("The documents of this vector store are changing too fast to be searched.", retry_after=1)

    async def _told(self, index_name: str, dense: list[list[Near]]) -> list[list[Hit]]:
        """Return the hits with what their chunks say: each read once, however many versions found it."""
        chunks = await self._index.lexical.chunks(
            index_name, {(one.document_id, one.index) for row in dense for one in row}
        )
        return [
            [Hit(chunks[place], one.similarity) for one in row if (place := (one.document_id, one.index)) in chunks]
            for row in dense
        ]

    async def _hidden(self, store_id: str) -> dict[str, str]:
        async with self._database.session() as session:
            return await Documents(session).hidden(store_id)


def _without(where: Filter | None, document_ids: set[str]) -> Filter | None:
    if not document_ids:
        return where
    condition = {"document": {"$nin": sorted(document_ids)}}
    return {"$and": [where, condition]} if where else condition
