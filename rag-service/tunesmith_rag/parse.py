"""An untrusted document is read in a process of its own with limits on memory, time, pages and output.

Whatever a document does to its parser (loop, explode, crash), it happens there (`parse_child.py`): the service gets
pages, or a sentence for the document's owner. Not promised: that the process has no access to files or the network; it
runs as this user.
"""

import asyncio
import json
from asyncio import StreamReader
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_rag.pages import DocumentRefused, Page

LINE_BYTES = 16 * 2**20
"""The longest line taken from a reading process, one page's text in JSON. A printed page has a few KiB."""


@dataclass(frozen=True)
class ParseLimits:
    """What one document may use. `seconds` is for the whole document; each finished page adds `seconds_per_page`, and
    each page whose text is recognised may take `ocr_seconds` besides. `tesseract` is the program's path, or empty.
    """

    seconds: float = 45
    seconds_per_page: float = 0.2
    memory_mb: int = 1024
    max_pages: int = 5000
    max_characters: int = 20_000_000
    tesseract: str = ""
    ocr_languages: str = "eng"
    ocr_seconds: float = 60
    ocr_pages: int = 500


def orders_for(path: Path, name: str, limits: ParseLimits, first: int) -> bytes:
    """Return what tells a reading process what to read (`parse_child.py`)."""
    orders = {
        "path": str(path),
        "name": name,
        "first": first,
        "tesseract": limits.tesseract,
        "ocr_languages": limits.ocr_languages,
        "ocr_seconds": limits.ocr_seconds,
        "ocr_pages": limits.ocr_pages,
        "memory_bytes": limits.memory_mb * 2**20,
        "cpu_seconds": max(1, round(limits.seconds)),
        "max_pages": limits.max_pages,
    }
    return json.dumps(orders).encode() + b"\n"


async def pages_from(lines: StreamReader, limits: ParseLimits) -> AsyncGenerator[Page]:
    """Yield the pages of a document in order as a reading process writes them.

    The time limit is on waiting for the process, and follows the work: a document that finishes no page, or one in a
    while, ends within a minute; a long healthy one goes on, and so does one whose pages are taken slowly.
    Raises `DocumentRefused` with what its owner should do, and `OSError` when the system gave no process.
    """
    clock = asyncio.get_running_loop().time
    if not await lines.readline():
        raise OSError("The system started no process to read the document with.")
    left, characters = limits.seconds, 0
    while True:
        asked = clock()
        line = await _next_line(lines, left, limits)
        left -= clock() - asked
        if "recognising" in line:
            left += limits.ocr_seconds
            continue
        if line.get("done"):
            return
        if "error" in line:
            raise DocumentRefused(line["code"], _memory(limits) if line["error"] == "memory" else line["error"])
        page = Page(**line)
        characters += len(page.text)
        if characters > limits.max_characters:
            raise DocumentRefused(
                "invalid_file",
                f"The document has more than {limits.max_characters:,} characters of text (reached on page "
                f"{page.number:,} of {page.total:,}). Split it and upload the parts.",
            )
        left += limits.seconds_per_page
        yield page


async def _next_line(lines: StreamReader, seconds: float, limits: ParseLimits) -> dict[str, Any]:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            line = await lines.readline()
    except TimeoutError as error:
        raise DocumentRefused(
            "invalid_file",
            f"Reading the document took longer than its {limits.seconds:g} seconds and was stopped: it is damaged or "
            "built in a way that keeps a reader busy. Print it as a new PDF and upload that.",
        ) from error
    except ValueError as error:  # the line is longer than the stream's limit
        raise DocumentRefused(
            "invalid_file",
            "One page of the document holds more text than any page can. Print it as a new PDF and upload that.",
        ) from error
    if line:
        parsed: dict[str, Any] = json.loads(line)
        return parsed
    # The process died without a word: the memory limit inside C code, the CPU limit, or a crash of the parser.
    raise DocumentRefused(
        "invalid_file",
        "The document could not be read: its reader stopped over it (too much memory or time, or a defect that "
        "damaged files trigger). Print it as a new PDF, or split it, and upload that.",
    )


def _memory(limits: ParseLimits) -> str:
    return (
        f"Reading the document needs more than {limits.memory_mb:,} MiB of memory and was stopped. "
        "Print it as a new PDF, or split it, and upload that."
    )
