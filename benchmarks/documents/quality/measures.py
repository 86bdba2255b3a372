"""What is measured of one way to search, and how sure a difference between two ways is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from benchmarks.documents.quality.questions import Asked

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]
Place = tuple[str, int]

FIRST = 5
RESAMPLES = 10_000


@dataclass(frozen=True)
class Outcome:
    """What one way to search found for each question: the places of the chunks, best first, whether the evidence
    sufficed, and the seconds it took without rewriting.
    """

    places: list[list[Place]] = field(default_factory=list)
    sufficient: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def milliseconds(self) -> float:
        """The median time of a search."""
        return float(np.median(self.seconds)) * 1000

    def recall(self, questions: Sequence[Asked]) -> Numbers:
        """Return for each question that has an answer 1 when its page is among the first five chunks, else 0."""
        return np.array([float(asked.place in found[:FIRST]) for asked, found in self._answerable(questions)])

    def reciprocal_rank(self, questions: Sequence[Asked]) -> Numbers:
        """Return for each question that has an answer 1 / the place of the first chunk of its page, 0 without one."""
        return np.array(
            [1 / (found.index(asked.place) + 1) if asked.place in found else 0.0
             for asked, found in self._answerable(questions)]
        )  # fmt: skip

    def refused(self, questions: Sequence[Asked], kinds: set[str]) -> float:
        """Return which share of the questions of these kinds was refused for want of evidence."""
        chosen = [not enough for asked, enough in zip(questions, self.sufficient, strict=True) if asked.kind in kinds]
        return float(np.mean(chosen))

    def _answerable(self, questions: Sequence[Asked]) -> list[tuple[Asked, list[Place]]]:
        pairs = zip(questions, self.places, strict=True)
        return [(asked, found) for asked, found in pairs if asked.answerable]


def interval(differences: Numbers) -> str:
    """Return the mean of paired `differences` with its bootstrap 95 % interval, the questions drawn anew each time."""
    drawn = np.random.default_rng(7).integers(0, len(differences), (RESAMPLES, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
