"""What a request may say about looking into documents, the same in every dialect."""

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_gateway.chat import Turn
from tunesmith_gateway.documents import Retrieval
from tunesmith_gateway.settings import GatewaySettings


class RetrievalOptions(BaseModel):
    """How to look into the documents: `k` excerpts, `queries` versions of the question in all, whether to rerank, and
    from which evidence on (0 to 1) the model is asked at all; 0 asks it always. What is not said is the settings',
    for `threshold` by the model's size.
    """

    model_config = ConfigDict(extra="forbid")
    k: int | None = Field(default=None, ge=1, le=20)
    queries: int | None = Field(default=None, ge=1, le=8)
    rerank: bool = True
    threshold: float | None = Field(default=None, ge=0, le=1)

    def retrieval(self, settings: GatewaySettings, model: str) -> Retrieval:
        """Return the options with the settings' defaults; `model` writes the other versions of the question."""
        k, queries = self.k or settings.chunks_per_answer, self.queries or settings.queries_per_answer
        return Retrieval(k, queries, model, self.rerank, self.threshold)


def shown_retrieval(turn: Turn) -> dict[str, Any]:
    """Return what an answer says about its excerpts, under `retrieval`; nothing when no documents were named."""
    if turn.grounding is None:
        return {}
    grounding = turn.grounding
    return {
        "retrieval": {
            "evidence": grounding.evidence,
            "refused": grounding.refused,
            "excerpts": len(grounding.chunks),
            "omitted_excerpts": grounding.omitted,
            "notes": grounding.notes,
            "closest_passages": [asdict(passage) for passage in grounding.closest],
        }
    }
