"""Find the chunks that answer a question: by meaning and by words, several versions of it, one fused ranking.

All versions go into one query of the vectors; the question as it was asked goes to the full-text index too. The
ranking is by reciprocal rank; the score that is shown is the cosine similarity to the question itself, so that it means
the same in every search and a threshold can be set on it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tunesmith_rag.embed import Embedder
from tunesmith_rag.fusion import Ranking, fuse
from tunesmith_rag.index import Chunk, Filter, Hit, Matrix
from tunesmith_rag.legs import Legs
from tunesmith_rag.lexical import WordHit
from tunesmith_rag.repository import Documents
from tunesmith_rag.rewrite import Rewriter
from tunesmith_shared.database import Database
from tunesmith_shared.errors import BadRequest, Unavailable
from tunesmith_shared.tables import Document, VectorStore

_DEPTH_FACTOR, _LEAST_DEPTH = 3, 20
"""Each version's ranking is longer than the answer: a chunk that several versions find low can come out high."""

_ATTEMPTS = 5


@dataclass(frozen=True)
class Weights:
    """How much the leg of meaning and the leg of words count in the fused ranking; one of them may be 0."""

    dense: float = 1.0
    lexical: float = 1.0


@dataclass(frozen=True)
class Question:
    """What to find in a store. `rewrite_model` is None when the questions are searched as they are."""

    queries: Sequence[str]
    count: int
    where: Filter | None = None
    score_threshold: float = 0.0
    rewrite_model: str | None = None
    weights: Weights = Weights()


@dataclass(frozen=True)
class Result:
    """A chunk, its document, its cosine similarity to the question (0 to 1), and its worth in the fused ranking."""

    chunk: Chunk
    document: Document
    score: float
    fused: float


@dataclass(frozen=True)
class Leg:
    """One ranking that went into the answer: of which text, by what, and the chunks with their scores, best first.

    Dense scores are cosine similarities to that text, lexical ones BM25.
    """

    kind: Literal["dense", "lexical"]
    query: str
    weight: float
    hits: list[tuple[Chunk, float]]


@dataclass(frozen=True)
class Results:
    """The best chunks first, every version of the question that was searched, what did not go as asked, and why the
    order is what it is: the rankings behind it, and the documents that their chunks are from.
    """

    data: list[Result]
    queries: list[str]
    notes: list[str] = field(default_factory=list)
    legs: list[Leg] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)


@dataclass(frozen=True)
class _Versions:
    """The texts to search for with their vectors; the first `originals` are the questions as they were asked."""

    texts: list[str]
    vectors: Matrix
    originals: int
    notes: list[str]

    def similarity(self, vector: Matrix) -> float:
        """Return the cosine of a chunk's vector and the nearest question as asked, from 0 to 1."""
        return min(1.0, max(0.0, float((self.vectors[: self.originals] @ _unit([vector])[0]).max())))


@dataclass(frozen=True)
class _Found:
    """The hits of every version by meaning, of every question as asked by words, and the documents they are from."""

    dense: list[list[Hit]]
    lexical: list[list[WordHit]]
    documents: dict[str, Document]


class Retriever:
    """Searches vector stores."""

    def __init__(
        self,
        database: Database,
        index: Legs,
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
        found = await self._visible_hits(store.id, versions, depth, question)
        legs = _legs(found, versions, question.weights)
        order = fuse(Ranking([chunk.id for chunk, _ in leg.hits], leg.weight) for leg in legs)
        vectors = await self._vectors(store.id, found, order)
        chunks = {chunk.id: chunk for leg in legs for chunk, _ in leg.hits}
        scored = (
            Result(chunks[name], found.documents[chunks[name].document_id], versions.similarity(vectors[name]), worth)
            for name, worth in order.items()
            if name in vectors  # otherwise it was deleted a moment ago
        )
        kept = [result for result in scored if result.score >= question.score_threshold]
        return Results(kept[: question.count], versions.texts, versions.notes, legs, found.documents)

    async def _vectors(self, store_id: str, found: _Found, names: Iterable[str]) -> dict[str, Matrix]:
        """Return the vectors of chunks; only those that were found by their words alone are asked for."""
        known = {hit.chunk.id: hit.vector for hits in found.dense for hit in hits}
        return known | await self._index.dense.vectors(store_id, [name for name in names if name not in known])

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

    async def _visible_hits(self, store_id: str, versions: _Versions, depth: int, question: Question) -> _Found:
        """Return the hits among completed documents, and these documents.

        The database says what is visible, before and after the index is asked; when a document came or went in
        between, the answer would mix two states and is asked for again. The first try has no condition on documents,
        because in Chroma 1.5 one costs ten times the query (7 ms against 60 ms at 20,000 chunks); only when hidden
        chunks took places is it added.
        """
        before = await self._hidden(store_id)
        condition = question.where
        asked = question.queries if question.weights.lexical else []
        for _ in range(_ATTEMPTS):
            dense, lexical = await asyncio.gather(
                self._index.dense.search(store_id, versions.vectors, depth, condition),
                self._index.lexical.search(store_id, asked, depth, condition),
            )
            found = {hit.chunk.document_id for hits in dense for hit in hits}
            found |= {hit.chunk.document_id for hits in lexical for hit in hits}
            async with self._database.session() as session:
                documents = await Documents(session).completed(found)
            after = await self._hidden(store_id)
            if after == before and found <= documents.keys():
                return _Found(dense, lexical, documents)
            before, condition = after, _without(question.where, after | (found - documents.keys()))
        raise Unavailable("The documents of this vector store are changing too fast to be searched.", retry_after=1)

    async def _hidden(self, store_id: str) -> set[str]:
        async with self._database.session() as session:
            return await Documents(session).hidden(store_id)


def _legs(found: _Found, versions: _Versions, weights: Weights) -> list[Leg]:
    """Weigh the questions as asked twice as much as all rewritten versions together.

    Measured with smollm2:135m on the 47 questions over the example handbook (mean reciprocal rank; the plain question:
    0.818): all equal and no limit on meaning 0.772, all equal within the limit 0.824, weighed like this 0.828.
    """
    asked = max(1.0, 2.0 * (len(versions.texts) - versions.originals) / versions.originals)
    legs = []
    for row, (text, hits) in enumerate(zip(versions.texts, found.dense, strict=True)):
        weight = asked if row < versions.originals else 1.0
        scored = [(hit.chunk, float(versions.vectors[row] @ _unit([hit.vector])[0])) for hit in hits]
        legs.append(Leg("dense", text, weight * weights.dense, scored))
    for text, words in zip(versions.texts, found.lexical, strict=False):  # the questions as asked come first
        legs.append(Leg("lexical", text, asked * weights.lexical, [(hit.chunk, hit.score) for hit in words]))
    return legs


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
