"""The pages of a PDF. Runs in the child process that `parse.py` starts, never in the service itself.

pypdf reads the structure, encryption and number of pages, and its limits refuse what is built to explode; PDFium reads
the text (`pdf_text.py`), many times faster and with the same words.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError, PyPdfError
from pypdfium2 import PdfDocument, PdfiumError

from tunesmith_rag.ocr import Tesseract, recognised
from tunesmith_rag.pages import DocumentRefused, Page, storable
from tunesmith_rag.pdf_text import helpers, texts_of

# Readers accept a header within the first KiB and an end mark within the last; some tools add padding after it.
HEADER_WINDOW = 1024
_END_WINDOW = 4096
_LINEARIZED_LENGTH = re.compile(rb"/Linearized\b[^>]{0,200}?/L\s+(\d{1,15})", re.DOTALL)
_MALFORMED = (PyPdfError, PdfiumError, ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""pypdf meets malformed objects with any of these; which one says nothing that the owner could use."""


@dataclass(frozen=True)
class Wanted:
    """From which page on, how many pages a document may have, how many processes may read them, and who reads pages
    that have no text.
    """

    first: int = 1
    max_pages: int = 5000
    processes: int = 1
    recogniser: Tesseract | None = None


def read_pages(path: Path, max_pages: int) -> Iterator[Page]:
    """Yield every page of the PDF at `path` as it is; errors as `pages_of`."""
    return pages_of(path, Wanted(max_pages=max_pages))


def pages_of(path: Path, wanted: Wanted) -> Iterator[Page]:
    """Yield the `wanted` pages of the PDF at `path` in order.

    A page with a damaged content stream is `readable=False`; pages without text are given to the recogniser, as far as
    it goes.

    Raises `DocumentRefused` when it is cut off, encrypted, damaged, has too many pages or is over a library's limit.
    """
    _check_whole(path)
    # Helpers read while pypdf looks at the structure; when it refuses the document they end.
    with path.open("rb") as file, helpers(path, wanted.first, wanted.processes) as readers:
        try:
            reader = PdfReader(file)
            _unlock(reader)
            total = len(reader.pages)
            _check_number(total, wanted.max_pages)
            document = PdfDocument(path)
        except LimitReachedError as error:
            raise _too_much() from error
        except _MALFORMED as error:
            raise DocumentRefused(
                "invalid_file",
                "The PDF is damaged and could not be read. Open it in a PDF viewer, save or print it as a new PDF, "
                "and upload that.",
            ) from error
        numbers = range(wanted.first, total + 1)
        with document:
            texts = texts_of(document, numbers, readers)
            pages = (_page(reader, number, total, text) for number, text in zip(numbers, texts, strict=True))
            yield from recognised(pages, document, wanted.recogniser) if wanted.recogniser else pages


def _check_whole(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER_WINDOW)
        file.seek(max(0, size - _END_WINDOW))
        tail = file.read()
    declared = _LINEARIZED_LENGTH.search(head)
    if b"%%EOF" not in tail or (declared and int(declared[1]) > size):
        raise DocumentRefused(
            "invalid_file",
            "The PDF is cut off: its end is missing, as after a broken download. Upload the whole file.",
        )


def _check_number(total: int, max_pages: int) -> None:
    if total == 0:
        raise DocumentRefused("invalid_file", "The PDF has no pages. Export it again and upload the new file.")
    if total > max_pages:
        raise DocumentRefused(
            "invalid_file",
            f"The PDF has {total:,} pages and the limit is {max_pages:,}. Split it and upload the parts.",
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


def _page(reader: PdfReader, number: int, total: int, text: str) -> Page:
    if not text:
        # PDFium passes over what it does not understand in silence; pypdf says whether the content is damaged.
        try:
            text = storable(reader.pages[number - 1].extract_text())
        except LimitReachedError as error:
            raise _too_much() from error
        except _MALFORMED:
            return Page(number, total, "", readable=False)
    return Page(number, total, text)


def _too_much() -> DocumentRefused:
    return DocumentRefused(
        "invalid_file",
        "The PDF unpacks to far more data than a document holds and was not read further. "
        "Print it as a new PDF, or split it, and upload that.",
    )
