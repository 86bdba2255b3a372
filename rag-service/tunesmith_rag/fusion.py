"""Bring several rankings of the same chunks together: reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RANK_CONSTANT = 60
"""The paper's k: how slowly a rank's worth falls. Larger values let agreement count more than a first place."""


@dataclass(frozen=True)
class Ranking:
    """The ids that one search found, best first, and how much its opinion weighs."""

    ids: Sequence[str]
    weight: float = 1.0


def fuse(rankings: Iterable[Ranking]) -> dict[str, float]:
    """Return all ids with their scores, best first: the sum over the rankings of weight / (RANK_CONSTANT + rank), ranks
    from 1.

    Ids of equal score keep the order in which they were first seen. A ranking without weight has no say.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        if ranking.weight <= 0:
            continue
        for rank, identifier in enumerate(ranking.ids, start=1):
            scores[identifier] = scores.get(identifier, 0.0) + ranking.weight / (RANK_CONSTANT + rank)
    return dict(sorted(scores.items(), key=lambda scored: -scored[1]))
