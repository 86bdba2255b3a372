"""Files that are there whole or not at all."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def write_text(path: Path, chunks: Iterable[str]) -> None:
    """Write `chunks` to `path`: to a temporary name beside it, flushed to disk, then renamed."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object to `path`, whole or not at all."""
    write_text(path, [json.dumps(value, ensure_ascii=False, indent=1)])


def write_json_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON objects to `path`, one a line, whole or not at all."""
    write_text(path, (json.dumps(value, ensure_ascii=False) + "\n" for value in values))
