"""The chunks of a collection that are nearest to vectors: of all, or of some that are named."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import chromadb.errors
import numpy as np
from chromadb.api.models.Collection import Collection

Matrix = np.ndarray[Any, np.dtype[np.float32]]

COMPARED = 6
"""So many chunks are compared one by one, and not looked for by the graph, that their number squared is this times the
store's. The graph takes about 1 us for each chunk that it passes, and passes more of them the rarer those are that may
be given; to compare one takes 25 us.
"""

_PART = 1000


@dataclass(frozen=True)
class Near:
    """Which chunk a search found, and its cosine similarity to the vector. What it says is in `lexical.py`, too, where
    it is read in a tenth of the time that it takes here.
    """

    document_id: str
    index: int
    similarity: float


def unit(vectors: Matrix | Sequence[Sequence[float]] | Sequence[Matrix]) -> Matrix:
    """Return `vectors` as rows of length 1, so that a product of two is their cosine."""
    matrix = np.asarray(vectors, dtype=np.float32)
    lengths: Matrix = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.maximum(lengths, 1e-12), dtype=np.float32)


def nearest(collection: Collection, vectors: Matrix, count: int, among: Sequence[str] | None) -> list[list[Near]]:
    """Ask the graph; when a chunk of `among` was removed since these were chosen, once more for those that are left."""
    try:
        found = collection.query(
            query_embeddings=vectors,
            n_results=count,
            ids=None if among is None else list(among),
            include=["distances"],
        )
    except chromadb.errors.InternalError:
        left = _left(collection, among or [])
        if len(left) == len(among or []):
            raise
        return nearest(collection, vectors, count, left) if left else [[] for _ in vectors]
    return [_near(*row) for row in zip(found["ids"], found["distances"] or [], strict=True)]


def _left(collection: Collection, among: Sequence[str]) -> list[str]:
    """Return those ids that are there."""
    parts = (list(among[start : start + _PART]) for start in range(0, len(among), _PART))
    return [name for part in parts for name in collection.get(ids=part, include=[])["ids"]]


def compared(collection: Collection, vectors: Matrix, count: int, among: Sequence[str]) -> list[list[Near]]:
    """Compare the vectors with those of all chunks in `among`."""
    found = collection.get(ids=list(among), include=["embeddings"])
    if not found["ids"]:
        return [[] for _ in vectors]
    distances = 1 - unit(vectors) @ unit(cast("Any", found["embeddings"])).T
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return [
        _near([found["ids"][place] for place in places], [float(row[place]) for place in places])
        for places, row in zip(order, distances, strict=True)
    ]


def _near(names: Sequence[str], distances: Sequence[float]) -> list[Near]:
    parts = (name.rpartition(":") for name in names)
    return [
        Near(document_id, int(index), 1 - distance)
        for (document_id, _, index), distance in zip(parts, distances, strict=True)
    ]
