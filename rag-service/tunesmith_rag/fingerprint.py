"""Whether an embedding model still is the one that made a store's vectors, whatever it is called.

A name says nothing: another model can take it, of the same dimension even. A digest of the file says too much: the same
model has another one in this process (safetensors) than at the model server (GGUF), and the vectors agree. So what is
recorded is what the model makes of a known text.
"""

import asyncio

import numpy as np

from tunesmith_rag.embed import Embedder
from tunesmith_rag.near import unit
from tunesmith_shared.errors import Conflict
from tunesmith_shared.tables import VectorStore

_TEXT = "The quick brown fox jumps over the lazy dog, and 12 ferries leave at half past nine."
_NUMBERS = 64
"""How many numbers of its vector are kept; those of two models are as good as orthogonal."""
_LEAST_LIKENESS = 0.95
"""Quantised and unquantised weights of one model agree to 0.98 and more."""
_FRESH_SECONDS = 60.0


class Fingerprints:
    """Takes fingerprints of models, each again after a minute: the model server may have another model by then."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._taken: dict[str, tuple[float, str]] = {}

    async def of(self, model: str, patience: float) -> str:
        """Return the fingerprint of `model`; raises what its embedder raises."""
        clock = asyncio.get_running_loop().time
        taken, fingerprint = self._taken.get(model, (float("-inf"), ""))
        if clock() - taken > _FRESH_SECONDS:
            vector = unit(await self._embedder.embed(model, [_TEXT], patience))[0]
            fingerprint = ",".join(f"{number:.4f}" for number in vector[:_NUMBERS])
            self._taken[model] = clock(), fingerprint
        return fingerprint

    def forget(self, model: str) -> None:
        """Take the next fingerprint of `model` anew."""
        self._taken.pop(model, None)

    async def check(self, store: VectorStore, patience: float) -> None:
        """Raise `Conflict` when another model made the vectors of `store` than the one that has its name now."""
        recorded = store.embedding_fingerprint
        if recorded is not None and not alike(recorded, await self.of(store.embedding_model, patience)):
            raise Conflict(
                f"The vectors of this vector store were made by another model than the one that is called "
                f"{store.embedding_model} now. Load the former model again, or embed the documents anew: "
                f"POST /v1/vector_stores/{store.id}/reindex.",
                code="embedding_model_changed",
            )


def alike(one: str, other: str) -> bool:
    """Say whether two fingerprints are of the same model."""
    first, second = (np.array([float(number) for number in text.split(",")]) for text in (one, other))
    if first.shape != second.shape:
        return False
    return float(first @ second) >= _LEAST_LIKENESS * float(np.linalg.norm(first) * np.linalg.norm(second))
