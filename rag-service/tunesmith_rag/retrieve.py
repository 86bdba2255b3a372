"""Find the chunks that answer a question: several versions of it, one query of the index, one fused ranking.

The ranking is by reciprocal rank; the score that is shown is the cosine similarity to the question itself, so that it
means the same in every search and a threshold can be set on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tunesmith_rag.embed import Embedder
from tunesmith_rag.fusion import Ranking, fuse
from tunesmith_rag.index import Chunk, ChunkIndex, Filter, Hit, Matrix
from tunesmith_rag.repository import Documents
from tunesmith_rag.rewrite import Rewriter
from tunesmith_shared.database import Database
from tunesmith_shared.errors import BadRequest, Unavailable
from tunesmith_shared.tables import Document, VectorStore

_DEPTH_FACTOR, _LEAST_DEPTH = 3, 20
"""Each version's ranking is longer than the answer: a chunk that several versions find low can come out high."""

_ATTEMPTS = 5


@dataclass(frozen=True)
class Question:
    """What to find in a store. `rewrite_model` is None when the questions are searched as they are."""

    queries: Sequence[str]
    count: int
    where: Filter | None = None
    score_threshold: float = 0.0
    rewrite_model: str | None = None


@dataclass(frozen=True)
class Result:
    """A chunk, its document, and its cosine similarity to the question, from 0 to 1."""

    chunk: Chunk
    document: Document
    score: float


@dataclass(frozen=True)
class Results:
    """The best chunks first, every version of the question that was searched, and what did not go as asked."""

    data: list[Result]
    queries: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Versions:
    """The texts to search for with their vectors; the first `originals` are the questions as they were asked."""

    texts: list[str]
    vectors: Matrix
    originals: int
    notes: list[str]


class Retriever:
    """Searches vector stores."""

    def __init__(
        self,
        database: Database,
        index: ChunkIndex,
        embedder: Embedder,
        rewriter: Rewriter,
        *,
        patience: float,
        closest: float,
    ) -> None:
        self._database = database
        self._index = index
        self._embedder = embedder
        self._rewriter = rewriter
        self._patience = patience
        self._closest = closest

    async def search(self, store: VectorStore, question: Question) -> Results:
        """Return the `question.count` best chunks of completed documents in `store`.

        Raises `BadRequest` for a question that is longer than the embedding model takes.
        """
        await self._check_length(store.embedding_model, question.queries)
        versions = await self._versions(store.embedding_model, question)
        depth = max(_LEAST_DEPTH, _DEPTH_FACTOR * question.count)
        rankings, documents = await self._visible_hits(store.id, versions.vectors, depth, question.where)
        hits = {hit.chunk.id: hit for ranking in rankings for hit in ranking}
        order = fuse(_weighted(rankings, versions.originals))
        scored = (self._result(hits[name], documents, versions) for name in order)
        kept = [result for result in scored if result.score >= question.score_threshold]
        return Results(kept[: question.count], versions.texts, versions.notes)

    async def _check_length(self, model_name: str, queries: Sequence[str]) -> None:
        model = await self._embedder.model(model_name, self._patience)
        for query in queries:
            if (tokens := model.count(query)) > model.max_tokens:
                raise BadRequest(
                    f"The question has {tokens} tokens and the embedding model {model_name} takes {model.max_tokens}. "
                    "Ask a shorter question.",
                    param="query",
                    code="context_length_exceeded",
                )

    async def _versions(self, model_name: str, question: Question) -> _Versions:
        """Embed the questions and their rewritten versions in one request; leave out what means something else."""
        texts, notes = list(question.queries), []
        originals = len(texts)
        if question.rewrite_model is not None:
            model = await self._embedder.model(model_name, self._patience)
            for query in question.queries:
                written = await self._rewriter.versions(query, question.rewrite_model)
                texts += [text for text in written.questions if model.count(text) <= model.max_tokens]
                notes += [written.note] if written.note else []
        vectors = _unit(await self._embedder.embed(model_name, texts, self._patience))
        closeness = (vectors @ vectors[:originals].T).max(axis=1)
        kept = [row for row in range(len(texts)) if row < originals or closeness[row] >= self._closest]
        if question.rewrite_model is not None and len(kept) == originals and not notes:
            notes.append("The question was searched as it is: its rewritten versions meant something else.")
        return _Versions([texts[row] for row in kept], vectors[kept], originals, notes)

    async def _visible_hits(
        self, store_id: str, vectors: Matrix, depth: int, where: Filter | None
    ) -> tuple[list[list[Hit]], dict[str, Document]]:
        """Return each version's hits among completed documents, and these documents.

        The database says what is visible, before and after the index is asked; when a document came or went in
        between, the answer would mix two states and is asked for again. The first try has no condition on documents,
        because in Chroma 1.5 one costs ten times the query (7 ms against 60 ms at 20,000 chunks); only when hidden
        chunks took places is it added.
        """
        before = await self._hidden(store_id)
        condition = where
        for _ in range(_ATTEMPTS):
            rankings = await self._index.search(store_id, vectors, depth, condition)
            found = {hit.chunk.document_id for ranking in rankings for hit in ranking}
            async with self._database.session() as session:
                documents = await Documents(session).completed(found)
            after = await self._hidden(store_id)
            if after == before and found <= documents.keys():
                return rankings, documents
            before, condition = after, _without(where, after | (found - documents.keys()))
        raise Unavailable("The documents of this vector store are changing too fast to be searched.", retry_after=1)

    async def _hidden(self, store_id: str) -> set[str]:
        async with self._database.session() as session:
            return await Documents(session).hidden(store_id)

    @staticmethod
    def _result(hit: Hit, documents: dict[str, Document], versions: _Versions) -> Result:
        similarity = float((versions.vectors[: versions.originals] @ _unit([hit.vector])[0]).max())
        return Result(hit.chunk, documents[hit.chunk.document_id], min(1.0, max(0.0, similarity)))


def _weighted(rankings: list[list[Hit]], originals: int) -> list[Ranking]:
    """Weigh the questions as asked twice as much as all rewritten versions together.

    Measured with smollm2:135m on the 47 questions over the example handbook (mean reciprocal rank; the plain question:
    0.818): all equal and no limit on meaning 0.772, all equal within the limit 0.824, weighed like this 0.828.
    """
    weight = max(1.0, 2.0 * (len(rankings) - originals) / originals)
    return [
        Ranking([hit.chunk.id for hit in ranking], weight if row < originals else 1.0)
        for row, ranking in enumerate(rankings)
    ]


def _without(where: Filter | None, document_ids: set[str]) -> Filter | None:
    if not document_ids:
        return where
    condition = {"document": {"$nin": sorted(document_ids)}}
    return {"$and": [where, condition]} if where else condition


def _unit(vectors: Sequence[Sequence[float]] | Sequence[Matrix]) -> Matrix:
    """Return `vectors` as rows of length 1, so that a product of two is their cosine."""
    matrix = np.asarray(vectors, dtype=np.float32)
    lengths: Matrix = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.maximum(lengths, 1e-12), dtype=np.float32)
