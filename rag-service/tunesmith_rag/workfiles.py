"""What an ingestion keeps on disk while it goes on: the pages that have been read, one JSON object a line.

Recognising a scanned page takes seconds; after a kill no page is read twice.
"""

import json
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from tunesmith_rag.pages import Page


class Journal:
    """The file of pages, open for more. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> "Journal":
        """Open it, and make it when it is not there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="utf-8", buffering=1)  # a line is on its way when it is complete
        return self

    def write(self, page: Page) -> None:
        """Add a page."""
        assert self._file is not None  # noqa: S101 - inside the block
        self._file.write(json.dumps(asdict(page)) + "\n")

    def __exit__(self, *_: object) -> None:
        """Close it."""
        assert self._file is not None  # noqa: S101 - inside the block
        self._file.close()


class WorkFolder:
    """The folder of one document's ingestion."""

    def __init__(self, root: Path, name: str) -> None:
        self._folder = root / name
        self._pages = self._folder / "pages.jsonl"

    def known_pages(self) -> list[Page]:
        """Return the pages that were read before; a line that a kill left half is cut off."""
        if not self._pages.exists():
            return []
        whole = self._pages.read_bytes().rpartition(b"\n")
        with self._pages.open("r+b") as file:
            file.truncate(len(whole[0]) + len(whole[1]))
        return [Page(**json.loads(line)) for line in whole[0].splitlines()]

    def more_pages(self) -> Journal:
        """Return the file for the pages that follow."""
        return Journal(self._pages)

    def remove(self) -> None:
        """Remove the folder; it is no error when it is not there."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder)
