"""What an ingestion keeps on disk between its steps: pages, then chunks, one JSON object a line.

Files hold what would be too much for memory or for a step's recorded result. Each is there whole or not at all.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

Line = dict[str, Any]


class Draft:
    """A file being written; `finish` makes it appear under its name, leaving the block without it removes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._file: IO[str] | None = None

    def __enter__(self) -> "Draft":
        """Open the file under a temporary name."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("w", encoding="utf-8")
        return self

    def write(self, line: Line) -> None:
        """Add a line."""
        assert self._file is not None  # noqa: S101 - inside the block
        self._file.write(json.dumps(line) + "\n")

    def finish(self) -> None:
        """Make the file appear, whole."""
        assert self._file is not None  # noqa: S101 - inside the block
        self._file.close()
        self._part.replace(self._path)

    def __exit__(self, *_: object) -> None:
        """Remove what was not finished."""
        if self._file is not None:
            self._file.close()
        self._part.unlink(missing_ok=True)


class WorkFolder:
    """The folder of one document's ingestion."""

    def __init__(self, root: Path, document_id: str) -> None:
        self._folder = root / document_id
        self.pages = self._folder / "pages.jsonl"
        self.chunks = self._folder / "chunks.jsonl"

    def remove(self) -> None:
        """Remove the folder; it is no error when it is not there."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder)


def write_lines(path: Path, lines: Iterable[Line]) -> int:
    """Write a whole file of `lines`; return how many there were."""
    count = 0
    with Draft(path) as draft:
        for line in lines:
            draft.write(line)
            count += 1
        draft.finish()
    return count


def read_lines(path: Path, start: int = 0, count: int | None = None) -> Iterator[Line]:
    """Yield `count` lines (all, when None) from line `start` on, counted from 0, one at a time."""
    with path.open(encoding="utf-8") as file:
        for line in islice(file, start, None if count is None else start + count):
            yield json.loads(line)
