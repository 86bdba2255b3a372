"""Put the best candidates of a search in a better order, by looking at question and text together.

Three implementations of one Protocol: the fused order as it is; the words and the meaning of each text, which needs no
model beside the embedding; and a cross-encoder behind a `/v1/rerank` endpoint as Jina, Cohere, vLLM, llama-server and
text-embeddings-inference offer it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx

from tunesmith_rag.evidence import blend


@dataclass(frozen=True)
class Candidate:
    """A text that was found: its cosine similarity to the question, the share of the question's terms in it by rarity,
    and its worth in the fused ranking.
    """

    text: str
    similarity: float
    coverage: float
    fused: float


class RerankFailed(Exception):
    """The reranker gave no scores; the message says why, for a note beside the results."""


class Reranker(Protocol):
    """Scores candidates; higher is better. Without a threshold scores are comparable within one call only."""

    @property
    def name(self) -> str:
        """What explanations call it."""

    @property
    def threshold(self) -> float | None:
        """The score that the best candidate of an answerable question has at least; None where scores do not tell."""

    async def score(self, question: str, candidates: Sequence[Candidate]) -> list[float]:
        """Return one score a candidate, in order; raises `RerankFailed`."""

    async def close(self) -> None:
        """Release connections."""


class FusedOrder:
    """Leaves the fused ranking as it is."""

    name = "none"
    threshold: float | None = None

    async def score(self, question: str, candidates: Sequence[Candidate]) -> list[float]:  # noqa: ARG002 - Protocol
        """Return the worth of each candidate in the fused ranking."""
        return [candidate.fused for candidate in candidates]

    async def close(self) -> None:
        """Nothing is open."""


class WordsAndMeaning:
    """Similarity plus coverage of the question's rare terms, weighed as on the tuning half of the question set."""

    name = "words"
    threshold: float | None = None

    async def score(self, question: str, candidates: Sequence[Candidate]) -> list[float]:  # noqa: ARG002 - Protocol
        """Return how well each candidate fits by meaning and by words."""
        return [blend(candidate.similarity, candidate.coverage) for candidate in candidates]

    async def close(self) -> None:
        """Nothing is open."""


class RerankEndpoint:
    """A cross-encoder at `url` + `/v1/rerank`; a call takes `seconds` at the most. Its best score is evidence with a
    `threshold`.
    """

    name = "endpoint"

    def __init__(self, url: str, model: str, api_key: str, seconds: float, threshold: float | None = None) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=seconds)
        self._model = model
        self.threshold = threshold

    async def score(self, question: str, candidates: Sequence[Candidate]) -> list[float]:
        """Return the endpoint's `relevance_score` of each candidate."""
        texts = [candidate.text for candidate in candidates]
        body = {"model": self._model, "query": question, "documents": texts, "top_n": len(texts)}
        try:
            response = await self._client.post("/v1/rerank", json=body)
            response.raise_for_status()
            scores = {int(one["index"]): float(one["relevance_score"]) for one in response.json()["results"]}
            return [scores[index] for index in range(len(texts))]
        except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise RerankFailed(f"The chunks were not reranked: the endpoint gave no scores ({reason}).") from error

    async def close(self) -> None:
        """Close the connections to the endpoint."""
        await self._client.aclose()
