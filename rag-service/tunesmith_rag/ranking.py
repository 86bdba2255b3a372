"""What a search is asked and what it answers, with everything that made the order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunesmith_rag.evidence import Evidence
from tunesmith_rag.index import Chunk, Filter
from tunesmith_shared.tables import Document


@dataclass(frozen=True)
class Weights:
    """How much the leg of meaning and the leg of words count in the fused ranking; one of them may be 0."""

    dense: float = 1.0
    lexical: float = 1.0


@dataclass(frozen=True)
class Question:
    """What to find in a store.

    `rewrite_model` is None when the questions are searched as they are; `rewrites` is how many versions it writes,
    None as many as the settings say. `rerank` and `merge_neighbours` switch their stages, `diversity` weighs likeness
    to what comes before, from 0 to 1, and `threshold` is the evidence asked for, None the settings' for a `large_model`
    or another.
    """

    queries: Sequence[str]
    count: int
    where: Filter | None = None
    score_threshold: float = 0.0
    rewrite_model: str | None = None
    rewrites: int | None = None
    weights: Weights = Weights()
    rerank: bool = True
    diversity: float | None = None
    merge_neighbours: bool = False
    threshold: float | None = None
    large_model: bool = False


@dataclass(frozen=True)
class Result:
    """A chunk, or a passage of `chunks` neighbouring ones, and its document.

    `score` is its cosine similarity to the question (0 to 1), `fused` its worth in the fused ranking, `coverage` the
    share of the question's terms in it by rarity, `relevance` the reranker's score.
    """

    chunk: Chunk
    document: Document
    score: float
    fused: float
    coverage: float = 0.0
    relevance: float = 0.0
    chunks: int = 1


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
class Stages:
    """The order after each stage, best first: fused, reranked (by what), spread out, and what came too low."""

    fused: list[Result]
    reranker: str
    reranked: list[Result]
    diversity: float
    diverse: list[Result]
    below_threshold: list[Result]


@dataclass(frozen=True)
class Results:
    """The best chunks first, every version of the question that was searched, what did not go as asked, and why the
    order is what it is: the rankings behind it, and the documents that their chunks are from.
    """

    data: list[Result]
    queries: list[str]
    evidence: Evidence | None
    stages: Stages
    notes: list[str] = field(default_factory=list)
    legs: list[Leg] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)
