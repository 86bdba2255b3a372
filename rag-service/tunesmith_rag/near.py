"""What a search by meaning gives, and the vectors it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Near:
    """Which chunk a search found, and its cosine similarity to the vector. What it says is in `lexical.py`, too, where
    it is read in a tenth of the time that it takes in Chroma.
    """

    document_id: str
    index: int
    similarity: float


def unit(vectors: Matrix | Sequence[Sequence[float]] | Sequence[Matrix]) -> Matrix:
    """Return `vectors` as rows of length 1, so that a product of two is their cosine."""
    matrix = np.asarray(vectors, dtype=np.float32)
    lengths: Matrix = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.maximum(lengths, 1e-12), dtype=np.float32)
