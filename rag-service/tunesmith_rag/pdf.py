"""The text of a PDF, page by page. Runs in the child process that `parse.py` starts, never in the service itself.

`read_pages` is the one place that extracts text, so that another library can take over behind it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PdfReadError, PyPdfError

ErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]
"""OpenAI's `last_error.code` of a file in a vector store."""

# Readers accept a header within the first KiB and an end mark within the last; some tools add padding after it.
_HEADER_WINDOW = 1024
_END_WINDOW = 4096
_LINEARIZED_LENGTH = re.compile(rb"/Linearized\b[^>]{0,200}?/L\s+(\d{1,15})", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class DocumentRefused(Exception):
    """This document cannot be read. `str()` is a sentence for its owner that says what to do."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code


@dataclass(frozen=True)
class Page:
    """One page: its number (from 1), how many there are, its text, and whether its content could be read at all."""

    number: int
    total: int
    text: str
    readable: bool = True


def read_pages(path: Path, max_pages: int) -> Iterator[Page]:
    """Yield every page of the PDF at `path` in order; a page with a damaged content stream is `readable=False`.

    Raises `DocumentRefused` when it is no PDF, cut off, encrypted, damaged, over `max_pages` or over a library's limit.
    """
    data = path.read_bytes()
    _check_whole(data)
    try:
        reader = PdfReader(BytesIO(data))
        _unlock(reader)
        total = len(reader.pages)
        if total == 0:
            raise DocumentRefused("invalid_file", "The PDF has no pages. Export it again and upload the new file.")
        if total > max_pages:
            raise DocumentRefused(
                "invalid_file",
                f"The PDF has {total:,} pages and the limit is {max_pages:,}. Split it and upload the parts.",
            )
        for number in range(1, total + 1):
            yield _read_page(reader, number, total)
    except LimitReachedError as error:
        raise _too_much() from error
    except (PyPdfError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        # pypdf meets malformed objects with any of these; which one says nothing that the owner could use.
        raise DocumentRefused(
            "invalid_file",
            "The PDF is damaged and could not be read. Open it in a PDF viewer, save or print it as a new PDF, "
            "and upload that.",
        ) from error


def _check_whole(data: bytes) -> None:
    if not data.strip(b"\x00\t\n\f\r "):
        raise DocumentRefused("invalid_file", "The file is empty. Check the original and upload it again.")
    if b"%PDF-" not in data[:_HEADER_WINDOW]:
        raise DocumentRefused(
            "unsupported_file",
            "The file is not a PDF: it does not start with %PDF. Only PDFs can be added; export it as a PDF first.",
        )
    declared = _LINEARIZED_LENGTH.search(data[:_HEADER_WINDOW])
    if b"%%EOF" not in data[-_END_WINDOW:] or (declared and int(declared[1]) > len(data)):
        raise DocumentRefused(
            "invalid_file",
            "The PDF is cut off: its end is missing, as after a broken download. Upload the whole file.",
        )


def _unlock(reader: PdfReader) -> None:
    """Open a PDF that is encrypted for its permissions only; one that needs a password is refused."""
    if not reader.is_encrypted:
        return
    message = "The PDF is encrypted and needs a password. Save a copy without the password and upload that."
    try:
        if not reader.decrypt(""):
            raise DocumentRefused("invalid_file", message)
    except (DependencyError, NotImplementedError, FileNotDecryptedError) as error:
        raise DocumentRefused("invalid_file", message) from error


def _read_page(reader: PdfReader, number: int, total: int) -> Page:
    try:
        return Page(number, total, _clean(reader.pages[number - 1].extract_text()))
    except LimitReachedError as error:
        raise _too_much() from error
    except PdfReadError:
        return Page(number, total, "", readable=False)
    except (PyPdfError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return Page(number, total, "", readable=False)


def _too_much() -> DocumentRefused:
    return DocumentRefused(
        "invalid_file",
        "The PDF unpacks to far more data than a document holds and was not read further. "
        "Print it as a new PDF, or split it, and upload that.",
    )


def _clean(text: str) -> str:
    """Drop what no database stores: lone surrogates and control characters other than tab and line breaks."""
    return _CONTROL.sub("", text.encode("utf-8", "ignore").decode("utf-8")).strip()
