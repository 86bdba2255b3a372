"""The chunks of a collection that are nearest to vectors: of all, or of some that are named."""

from collections.abc import Sequence
from typing import Any, cast

import chromadb.errors
import numpy as np
from chromadb.api.models.Collection import Collection

from tunesmith_rag.near import Matrix, unit

COMPARED = 6
"""So many chunks are compared one by one, and not looked for by the graph, that their number squared is this times the
store's. The graph takes about 1 us for each chunk that it passes, and passes more of them the rarer those are that may
be given; to compare one takes 25 us.
"""

_PART = 1000

Row = tuple[list[str], list[float]]
"""The ids of the chunks nearest to one vector, nearest first, and their cosine similarities to it."""


def nearest(collection: Collection, vectors: Matrix, count: int, among: Sequence[str] | None) -> list[Row]:
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
        return nearest(collection, vectors, count, left) if left else [([], []) for _ in vectors]
    rows = zip(found["ids"], found["distances"] or [], strict=True)
    return [(names, [1 - distance for distance in distances]) for names, distances in rows]


def _left(collection: Collection, among: Sequence[str]) -> list[str]:
    """Return those ids that are there."""
    parts = (list(among[start : start + _PART]) for start in range(0, len(among), _PART))
    return [name for part in parts for name in collection.get(ids=part, include=[])["ids"]]


def compared(collection: Collection, vectors: Matrix, count: int, among: Sequence[str]) -> list[Row]:
    """Compare the vectors with those of all chunks in `among`."""
    found = collection.get(ids=list(among), include=["embeddings"])
    names = found["ids"]
    if not names:
        return [([], []) for _ in vectors]
    similarities = unit(vectors) @ unit(cast("Any", found["embeddings"])).T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    return [
        ([names[place] for place in places], row[places].tolist())
        for places, row in zip(order, similarities, strict=True)
    ]
