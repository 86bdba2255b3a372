"""Find the chunks that answer a question: by meaning and by words, several versions of it, one ranking.

    versions -> both indexes -> fused by reciprocal rank -> reranked -> spread out -> threshold -> neighbours merged

All versions go into one query of the vectors; the question as it was asked goes to the full-text index too. The score
that is shown is the cosine similarity to the question itself, so that it means the same in every search and a threshold
can be set on it; the order is the stages'. `evidence.py` says whether the chunks found are worth answering from.
"""

from dataclasses import dataclass, replace

import numpy as np

from tunesmith_rag.diversity import diverse_order
from tunesmith_rag.evidence import Evidence, Thresholds, of_relevance, weigh
from tunesmith_rag.fusion import Ranking, fuse
from tunesmith_rag.legs import Legs
from tunesmith_rag.near import Matrix, unit
from tunesmith_rag.passages import merged
from tunesmith_rag.ranking import Leg, Question, Result, Results, Stages, Weights
from tunesmith_rag.rerank import Candidate, FusedOrder, Reranker, RerankFailed
from tunesmith_rag.versions import Versions, Wording
from tunesmith_rag.visible import Finder, Found
from tunesmith_shared.database import Database
from tunesmith_shared.tables import VectorStore

_DEPTH_FACTOR, _LEAST_DEPTH = 3, 20
"""Each version's ranking is longer than the answer: a chunk that several versions find low can come out high."""

_POOL_FACTOR, _LEAST_POOL = 2, 20
"""How many of the fused ranking are reranked, and can be in the answer."""


@dataclass(frozen=True)
class Defaults:
    """What a search gets that does not say otherwise: the reranker, the weight of diversity, the evidence to reach."""

    reranker: Reranker
    diversity: float
    thresholds: Thresholds


class Retriever:
    """Searches vector stores."""

    def __init__(self, database: Database, index: Legs, wording: Wording, defaults: Defaults) -> None:
        self._finder = Finder(database, index)
        self._index = index
        self._wording = wording
        self._defaults = defaults

    async def search(self, store: VectorStore, question: Question) -> Results:
        """Return the `question.count` best chunks of completed documents in `store`.

        Raises `BadRequest` for a question that is longer than the embedding model takes.
        """
        versions = await self._wording.versions(store.embedding_model, question)
        depth = max(_LEAST_DEPTH, _DEPTH_FACTOR * question.count)
        asked = list(question.queries) if question.weights.lexical else []
        found = await self._finder.find(store, versions.vectors, asked, depth, question.where)
        legs = weighed_legs(found, versions, question.weights)
        pool, vectors = await self._pool(store.index, found, versions, legs, question.count)
        near = [versions.similarities(vectors[result.chunk.id]) for result in pool]
        judged, by_rule = await self._judged(store.index, question, pool, near)
        stages, notes = await self._staged(question, judged, vectors)
        kept = [result for result in stages.diverse if result.score >= question.score_threshold][: question.count]
        data = merged(kept) if question.merge_neighbours else kept
        notes += [_coming(found.coming)] if found.coming else []
        evidence = self._by_relevance(question, stages) or by_rule
        return Results(data, versions.texts, evidence, stages, versions.notes + notes, legs, found.documents)

    async def _pool(
        self, index_name: str, found: Found, versions: Versions, legs: list[Leg], count: int
    ) -> tuple[list[Result], dict[str, Matrix]]:
        """Return the best of the fused ranking, and their vectors by name."""
        order = fuse(Ranking([chunk.id for chunk, _ in leg.hits], leg.weight) for leg in legs)
        names = list(order)[: max(_LEAST_POOL, _POOL_FACTOR * count)]
        vectors = await self._index.dense.vectors(index_name, names)
        chunks = {chunk.id: chunk for leg in legs for chunk, _ in leg.hits}
        pool = [
            Result(
                chunks[name], found.documents[chunks[name].document_id], versions.similarity(vectors[name]), order[name]
            )
            for name in names
            if name in vectors  # otherwise it was deleted a moment ago
        ]
        return pool, vectors

    async def _judged(
        self, index_name: str, question: Question, pool: list[Result], near: list[list[float]]
    ) -> tuple[list[Result], Evidence | None]:
        """Return the pool with the coverage of each chunk, and the evidence; neither where nothing needs them.

        `near` has for each chunk the similarity of each question as asked.
        """
        usual = self._defaults.thresholds.large if question.large_model else self._defaults.thresholds.usual
        threshold = usual if question.threshold is None else question.threshold
        if not threshold and not question.rerank:
            return pool, None
        terms = await self._index.lexical.compare(index_name, question.queries, [one.chunk.text for one in pool])
        judged = [replace(result, coverage=terms.coverage(place)) for place, result in enumerate(pool)]
        coverages = [terms.coverages(place) for place in range(len(pool))]
        return judged, weigh(near, coverages, terms, threshold) if threshold else None

    async def _staged(
        self, question: Question, pool: list[Result], vectors: dict[str, Matrix]
    ) -> tuple[Stages, list[str]]:
        """Rerank and spread out; a reranker that fails leaves the fused order, with a note."""
        reranker = self._defaults.reranker if question.rerank else FusedOrder()
        text = "\n".join(question.queries)
        candidates = [Candidate(one.chunk.text, one.score, one.coverage, one.fused) for one in pool]
        notes: list[str] = []
        try:
            scores = await reranker.score(text, candidates)
        except RerankFailed as failure:
            reranker, notes = FusedOrder(), [str(failure)]
            scores = await reranker.score(text, candidates)
        scored = [replace(result, relevance=score) for result, score in zip(pool, scores, strict=True)]
        reranked = sorted(scored, key=lambda result: -result.relevance)
        weight = self._defaults.diversity if question.diversity is None else question.diversity
        rows = unit([vectors[result.chunk.id] for result in reranked]) if reranked else np.zeros((0, 0), np.float32)
        diverse = [reranked[place] for place in diverse_order([one.relevance for one in reranked], rows, weight)]
        low = [result for result in diverse if result.score < question.score_threshold]
        return Stages(pool, reranker.name, reranked, weight, diverse, low), notes

    def _by_relevance(self, question: Question, stages: Stages) -> Evidence | None:
        """Return the evidence of the best chunk's score, where the reranker gave one that tells."""
        reranker = self._defaults.reranker
        if reranker.threshold is None or stages.reranker != reranker.name:
            return None
        if not stages.reranked or question.threshold == 0:
            return None
        return of_relevance(stages.reranked[0].relevance, question.threshold or reranker.threshold)


def _coming(documents: int) -> str:
    one = "1 document of this vector store is still being added, or embedded anew, and was"
    many = f"{documents} documents of this vector store are still being added, or embedded anew, and were"
    return f"{one if documents == 1 else many} not searched."


def weighed_legs(found: Found, versions: Versions, weights: Weights) -> list[Leg]:
    """Return the rankings to fuse; the questions as asked weigh twice as much as all rewritten versions together.

    A small model's versions drift: on the tuning half of the question set, versions that weigh as much as the question
    lose what the question alone finds (`benchmarks/documents/README.md`).
    """
    asked = max(1.0, 2.0 * (len(versions.texts) - versions.originals) / versions.originals)
    legs = []
    for row, (text, hits) in enumerate(zip(versions.texts, found.dense, strict=True)):
        weight = asked if row < versions.originals else 1.0
        legs.append(Leg("dense", text, weight * weights.dense, [(hit.chunk, hit.similarity) for hit in hits]))
    for text, words in zip(versions.texts, found.lexical, strict=False):  # the questions as asked come first
        legs.append(Leg("lexical", text, asked * weights.lexical, [(hit.chunk, hit.score) for hit in words]))
    return legs
