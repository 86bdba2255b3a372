"""Maximal marginal relevance (Carbonell and Goldstein, 1998): good chunks first, but none that says the same again."""

from collections.abc import Sequence

import numpy as np

from tunesmith_rag.near import Matrix


def diverse_order(scores: Sequence[float], vectors: Matrix, weight: float) -> list[int]:
    """Return the places of `scores` in an order that trades score against likeness to what comes before.

    `vectors` has a row of length 1 a score. `weight` is what likeness counts for, from 0 (the order of the scores) to
    1; scores are brought to 0..1 first, because rerankers have scales of their own.
    """
    if not scores or weight <= 0:
        return sorted(range(len(scores)), key=lambda place: -scores[place])
    values = np.asarray(scores, dtype=np.float64)
    worth = (1 - weight) * (values - min(0.0, values.min())) / max(1e-12, values.max() - min(0.0, values.min()))
    likeness = vectors @ vectors.T
    nearest = np.zeros(len(values))
    order: list[int] = []
    left = np.ones(len(values), dtype=bool)
    while left.any():
        gain = np.where(left, worth - weight * nearest, -np.inf)
        best = int(gain.argmax())
        order.append(best)
        left[best] = False
        nearest = np.maximum(nearest, likeness[best])
    return order
