"""What rows become, and what a dataset format is."""

from collections.abc import Callable
from dataclasses import dataclass

from tunesmith_finetune.datasets.cells import Cells, Message


@dataclass(frozen=True)
class Preference:
    """A row of preference training; both answers follow `prompt`."""

    prompt: list[Message]
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Rated:
    """One answer to `prompt`, and whether people liked it."""

    prompt: list[Message]
    answer: str
    liked: bool


Content = list[Message] | str | Preference | Rated


@dataclass(frozen=True)
class Format:
    """A format: the name it is asked for by, its columns (each a tuple of accepted names) and how its rows become
    content. One whose columns say nothing of its own (`found_by_columns` is false) is used when it is asked for.
    """

    name: str
    columns: tuple[tuple[str, ...], ...]
    convert: Callable[[Cells], Content]
    found_by_columns: bool = True

    def fits(self, names: set[str]) -> bool:
        """Whether every column is there under one of its names."""
        return all(names.intersection(accepted) for accepted in self.columns)

    @property
    def described(self) -> str:
        """The columns for people: `prompt + response|completion|answer`."""
        return " + ".join("|".join(accepted) for accepted in self.columns)
