"""Which kind of document a file is, and its pages: PDF, Word (DOCX), HTML, Markdown or plain text.

The content decides; the name only tells apart what looks the same (Markdown and plain text) and what a file claims to
be. Everything here runs in the process that `parse_server.py` forks for a document.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from charset_normalizer import from_bytes

from tunesmith_rag import markup, pdf
from tunesmith_rag.pages import DocumentRefused, Page, storable

SUPPORTED = "PDF, DOCX, HTML, Markdown and plain text"

_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_BLANK = b"\x00\t\n\x0b\f\r "
_OTHER_KINDS = {".pdf", ".docx", ".doc", ".xls", ".xlsx", ".ppt", ".pptx", ".odt", ".epub", ".rtf", ".png", ".jpg"}
"""Endings of names that promise something else than text."""
_HTML_START = ("<!doctype html", "<html")


def read_document(path: Path, name: str, wanted: pdf.Wanted) -> Iterator[Page]:
    """Yield the `wanted` pages of the document at `path`, which its owner calls `name`.

    Documents without pages give their sections: one begins at each heading of the first two levels.
    Raises `DocumentRefused` when the file is empty, damaged, of another kind, or has too many pages.
    """
    with path.open("rb") as file:
        head = file.read(pdf.HEADER_WINDOW)
    if b"%PDF-" in head:
        yield from pdf.pages_of(path, wanted)
        return
    if not head.strip(_BLANK):
        raise DocumentRefused("invalid_file", "The file is empty. Check the original and upload it again.")
    sections = [storable(section) for section in _sections(path, name, head)]
    if len(sections) > wanted.max_pages:
        raise DocumentRefused(
            "invalid_file",
            f"The document has {len(sections):,} sections and the limit is {wanted.max_pages:,}. "
            "Split it and upload the parts.",
        )
    for number, section in enumerate(sections[wanted.first - 1 :], start=wanted.first):
        yield Page(number, len(sections), section)


def _sections(path: Path, name: str, head: bytes) -> list[str]:
    suffix = Path(name).suffix.lower()
    if head.startswith(_ZIP) and _is_word(path):
        return markup.sections_of_word(path)
    if suffix == ".pdf":
        raise DocumentRefused(
            "unsupported_file",
            "The file is named .pdf and is not a PDF: it does not start with %PDF. Export it as a PDF, or upload it "
            f"under its real ending. What can be added: {SUPPORTED}.",
        )
    if head.startswith((_ZIP, _OLE)) or suffix in _OTHER_KINDS:
        raise _unsupported(suffix)
    text = _decoded(path.read_bytes(), suffix)
    if suffix in {".html", ".htm", ".xhtml"} or text.lstrip()[:20].lower().startswith(_HTML_START):
        return markup.sections_of_html(text)
    if suffix in {".md", ".markdown"}:
        return markup.sections_of_markdown(text)
    return [part for part in text.split("\f") if part.strip()]


def _is_word(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "word/document.xml" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise markup.damaged("archive") from error


def _decoded(data: bytes, suffix: str) -> str:
    """Return the text in whatever encoding it is; refuse what is no text."""
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        guess = from_bytes(data).best()
        if guess is None:
            raise _unsupported(suffix) from None
        text = str(guess)
    if "\x00" in text:
        raise _unsupported(suffix)
    return text


def _unsupported(suffix: str) -> DocumentRefused:
    kind = f"{suffix} files cannot" if suffix else "A file of this kind cannot"
    return DocumentRefused("unsupported_file", f"{kind} be added. What can be: {SUPPORTED}. Save it as one of these.")
