"""Vectors of texts from an embedding model's process."""

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunesmith_engine.process import ContextExceeded, ModelProcess
from tunesmith_engine.truncation import tokenize
from tunesmith_shared.errors import BadRequest

EmbeddingInput = str | list[int]
# Between batches a request whose client left ends, and others get their turn.
_BATCH_INPUTS = 32

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedded:
    """One row a text; ``tokens`` counts what the model read."""

    vectors: Vectors
    tokens: int


async def embed(
    process: ModelProcess, inputs: list[EmbeddingInput], *, num_ctx: int, dimensions: int | None, truncate: bool
) -> Embedded:
    """Vectors of length one. Long inputs are cut, or refused with ContextExceeded when ``truncate`` is off."""
    if not inputs:
        return Embedded(np.zeros((0, 0), np.float32), 0)
    filled = [text if text else " " for text in inputs]
    found = []
    for start in range(0, len(filled), _BATCH_INPUTS):
        batch = filled[start : start + _BATCH_INPUTS]
        try:
            found.append(await _embed(process, batch))
        except ContextExceeded:
            if not truncate:
                raise
            found.append(await _embed(process, [await _cut(process, text, num_ctx) for text in batch]))
    vectors = np.concatenate([part.vectors for part in found])
    return Embedded(shorten(vectors, dimensions), sum(part.tokens for part in found))


async def _embed(process: ModelProcess, inputs: list[EmbeddingInput]) -> Embedded:
    answer = await process.call("/v1/embeddings", {"input": inputs, "encoding_format": "base64"})
    data, usage = answer["data"], answer["usage"]
    assert isinstance(data, list)  # noqa: S101 - llama.cpp's server says so
    assert isinstance(usage, dict)  # noqa: S101 - llama.cpp's server says so
    rows = [base64.b64decode(item["embedding"]) for item in sorted(data, key=lambda item: item["index"])]
    vectors = np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), -1)
    return Embedded(vectors, int(usage.get("prompt_tokens", 0)))


async def _cut(process: ModelProcess, text: EmbeddingInput, num_ctx: int) -> EmbeddingInput:
    """The text's tokens up to the context's end, with the model's closing token where it has one."""
    tokens = await tokenize(process, text) if isinstance(text, str) else text
    if len(tokens) <= num_ctx:
        return tokens
    closing = (await tokenize(process, ""))[-1:]
    return tokens[: num_ctx - 1] + closing if closing == tokens[-1:] else tokens[:num_ctx]


def shorten(vectors: Vectors, dimensions: int | None) -> Vectors:
    """The first dimensions, of length one again. Raises BadRequest for more than there are."""
    if dimensions is None or vectors.size == 0:
        return vectors
    width = vectors.shape[1]
    if not 0 < dimensions <= width:
        raise BadRequest(f"dimensions must be between 1 and {width} for this model", param="dimensions")
    cut = vectors[:, :dimensions]
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.asarray(cut / np.maximum(norms, 1e-12), dtype=np.float32)
