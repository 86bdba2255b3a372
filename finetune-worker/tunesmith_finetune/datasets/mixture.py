"""Several datasets as one: a sample of each, and how often its rows are seen in an epoch."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tunesmith_finetune.datasets.source import Source

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """A dataset of a job: its file, its format ("auto": found by its columns), how many of its rows are taken at the
    most, and how often each is seen in an epoch (0.5: every second one, drawn once by the job's seed).
    """

    source: Source
    format: str = "auto"
    max_rows: int | None = None
    weight: float = 1.0


def sample(items: Iterable[Item], most: int | None, seed: int) -> list[Item]:
    """Return at most `most` of `items`, in their order, each equally likely (reservoir sampling, Vitter 1985)."""
    if most is None:
        return list(items)
    draw = random.Random(seed)  # noqa: S311 - which rows are taken is no secret
    kept: list[tuple[int, Item]] = []
    for index, item in enumerate(items):
        if index < most:
            kept.append((index, item))
        elif (place := draw.randrange(index + 1)) < most:
            kept[place] = (index, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]


def weighted(items: Sequence[Item], weight: float, seed: int) -> list[Item]:
    """Return each of `items` `weight` times; of a fraction, as many of them as it makes, drawn by `seed`."""
    whole = int(weight)
    some = round((weight - whole) * len(items))
    drawn = sample(items, some if whole else max(1, some), seed)
    return list(items) * whole + drawn
