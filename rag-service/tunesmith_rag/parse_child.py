"""What the process does that reads one untrusted document, after `parse_server.py` has forked it.

Its orders are one JSON object in one line on standard input. It writes one JSON object a line: `{"begun": true}`,
pages, `{"recognising": number}` before a page whose text is read from its picture, then `{"done": true}`, or
`{"error": ..., "code": ...}`. Limits on memory and CPU time are set here before anything of the document is touched;
wall time and the amount of output are `parse.py`'s business.
"""

import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunesmith_rag.formats import read_document
from tunesmith_rag.ocr import Tesseract
from tunesmith_rag.pages import DocumentRefused
from tunesmith_rag.pdf import Wanted
from tunesmith_rag.pdf_text import allow_cpu

_MOST_AT_ONCE = 4
"""Pages that are read, or recognised, at the same time: each needs a part of the memory that the document may use."""


def main() -> None:
    """Read the document that the orders name; leave with 0 whenever the outcome was said on standard output."""
    orders = json.loads(sys.stdin.readline())
    _say({"begun": True})
    resource.setrlimit(resource.RLIMIT_AS, (orders["memory_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nothing here has a reason to write a file
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allow_cpu(orders["cpu_seconds"])
    try:
        at_once = min(_MOST_AT_ONCE, len(os.sched_getaffinity(0)))
        wanted = Wanted(orders["first"], orders["max_pages"], at_once, _recogniser(orders, at_once))
        for page in read_document(Path(orders["path"]), orders["name"], wanted):
            _say(asdict(page))
            # The budget is for one page: when the service dies, a child stuck in a page ends by itself.
            allow_cpu(orders["cpu_seconds"])
        _say({"done": True})
    except DocumentRefused as refusal:
        _say({"error": str(refusal), "code": refusal.code})
    except MemoryError:
        _say({"error": "memory", "code": "invalid_file"})


def _recogniser(orders: dict[str, Any], at_once: int) -> Tesseract | None:
    if not orders["tesseract"]:
        return None
    languages, seconds, pages = orders["ocr_languages"], orders["ocr_seconds"], orders["ocr_pages"]
    return Tesseract(
        orders["tesseract"], languages, seconds, pages, at_once, lambda number: _say({"recognising": number})
    )


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
