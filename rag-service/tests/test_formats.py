"""Every kind of document gives its sections with their words; what is of another kind is refused."""

import os
import shutil
import time
import zipfile
from io import BytesIO
from pathlib import Path

import psutil
import pytest

from tunesmith_rag import testing
from tunesmith_rag.pages import DocumentRefused, Page
from tunesmith_rag.parse import ParseLimits

HTML = b"""<!DOCTYPE html><html><head><title>x</title><style>p {}</style></head><body><nav>menu</nav>
<h1>Ferries</h1><p>The ferry <b>leaves</b>
at nine.</p><ul><li>Borkum<li>Juist</ul><script>alert(1)</script>
<h2>Prices</h2><table><tr><th>From<th>Euro</tr><tr><td><p>Emden</p><td>21</table>After.</body></html>"""
FERRIES, PRICES = (
    "Ferries\n\nThe ferry leaves at nine.\n\nBorkum\n\nJuist",
    "Prices\n\nFrom | Euro\n\nEmden | 21\n\nAfter.",
)
MARKDOWN = b"intro\n\n# One\nsome *text*\n\n## Two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
TESSERACT = shutil.which("tesseract") or ""
NEEDS_TESSERACT = pytest.mark.skipif(not TESSERACT, reason="Tesseract is not installed (Debian: tesseract-ocr)")
LINES = "The lighthouse of Amrum is red and white.\nIts keeper is called Boy Jensen."


async def read(tmp_path: Path, name: str, content: bytes, limits: ParseLimits | None = None) -> list[Page]:
    file = tmp_path / "document"
    file.write_bytes(content)
    return await testing.pages_of(file, name, limits)


def archive(**files: str) -> bytes:
    output = BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name.replace("__", "/").replace("_", "."), content)
    return output.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "sections"),
    [
        pytest.param("a.html", HTML, [FERRIES, PRICES], id="html"),
        pytest.param("a", HTML, [FERRIES, PRICES], id="html without an ending"),
        pytest.param("a.md", MARKDOWN, ["intro", "One\n\nsome text", "Two\n\na | b\n\n1 | 2"], id="markdown"),
        pytest.param("a.txt", b"one\ntwo\n\fthree", ["one\ntwo", "three"], id="form feeds"),
        pytest.param("a.txt", "Grüße aus Köln".encode(), ["Grüße aus Köln"], id="utf-8"),
        pytest.param("a.txt", "Grüße aus Köln".encode("utf-16"), ["Grüße aus Köln"], id="utf-16"),
        pytest.param("a.txt", ("Grüße aus Köln, schöne Häuser. " * 9).encode("cp1252"), None, id="windows"),
        pytest.param("a.docx", testing.word(("h1", "Ferries"), ("p", "At nine.")), ["Ferries\n\nAt nine."], id="word"),
    ],
)
async def test_text_and_sections(tmp_path: Path, name: str, content: bytes, sections: list[str] | None) -> None:
    pages = await read(tmp_path, name, content)
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert [page.text for page in pages] == (sections or [("Grüße aus Köln, schöne Häuser. " * 9).strip()])


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        pytest.param("a.pdf", b"hello", "unsupported_file", "not a PDF", id="no pdf"),
        pytest.param("a.bin", bytes(range(256)) * 20, "unsupported_file", "Markdown and plain text", id="binary"),
        pytest.param("a.xlsx", archive(xl__workbook_xml="<x/>"), "unsupported_file", ".xlsx files cannot", id="excel"),
        pytest.param("a.doc", b"\xd0\xcf\x11\xe0" + b"\1" * 600, "unsupported_file", ".doc files", id="old word"),
        pytest.param("a.png", b"\x89PNG\r\n" + b"\1" * 600, "unsupported_file", ".png files cannot", id="picture"),
        pytest.param("a.docx", b"PK\x03\x04" + b"\1" * 600, "invalid_file", "is damaged", id="no archive"),
        pytest.param("a.docx", archive(word__document_xml="<w:doc"), "invalid_file", "is damaged", id="broken word"),
        pytest.param("a.docx", archive(word__document_xml=" " * 2**29), "invalid_file", "", id="exploding word"),
        pytest.param("a.txt", b" \n\t ", "invalid_file", "is empty", id="blank"),
    ],
)
async def test_what_is_refused(tmp_path: Path, name: str, content: bytes, code: str, says: str) -> None:
    with pytest.raises(DocumentRefused) as caught:
        await read(tmp_path, name, content)
    assert caught.value.code == code
    assert says in str(caught.value)


async def test_markup_that_nests_deeply_is_read(tmp_path: Path) -> None:
    (page,) = await read(tmp_path, "a.html", b"<div>" * 5_000 + b"deep")
    assert page.text == "deep"


@NEEDS_TESSERACT
async def test_scanned_pages_are_recognised_and_blank_ones_named(tmp_path: Path) -> None:
    pages = await read(tmp_path, "a.pdf", testing.photographed(LINES, ""), ParseLimits(tesseract=TESSERACT))
    assert [(page.recognised, page.text.split("\n")) for page in pages] == [(True, LINES.split("\n")), (False, [""])]


@NEEDS_TESSERACT
async def test_no_more_pages_are_recognised_than_allowed(tmp_path: Path) -> None:
    limits = ParseLimits(tesseract=TESSERACT, ocr_pages=1)
    pages = await read(tmp_path, "a.pdf", testing.photographed(LINES, LINES), limits)
    assert [page.recognised for page in pages] == [True, False]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="pages are recognised side by side on two processors")
async def test_pages_are_recognised_side_by_side_and_come_in_order(tmp_path: Path) -> None:
    program = tmp_path / "tesseract"
    # Each of two waits for the other: one after the other they would both be ended and give nothing.
    program.write_text(
        f"#!/bin/sh\ncat >/dev/null\nmkdir {tmp_path}/first && name=first || name=second\n"
        f"mkdir -p {tmp_path}/$name.begun\n"
        f"until [ -d {tmp_path}/first.begun ] && [ -d {tmp_path}/second.begun ]; do sleep 0.01; done\n"
        f'[ $name = second ] || sleep 0.2\necho "$name"\n'
    )
    program.chmod(0o755)
    limits = ParseLimits(tesseract=str(program), ocr_seconds=30)
    pages = await read(tmp_path, "a.pdf", testing.photographed(LINES, LINES), limits)
    assert sorted(page.text for page in pages) == ["first", "second"]
    assert [page.number for page in pages] == [1, 2]


async def test_without_tesseract_a_scanned_page_has_no_text(tmp_path: Path) -> None:
    (page,) = await read(tmp_path, "a.pdf", testing.photographed(LINES))
    assert (page.text, page.readable, page.recognised) == ("", True, False)


async def test_a_recogniser_that_hangs_is_ended_and_the_document_goes_on(tmp_path: Path) -> None:
    program = tmp_path / "tesseract"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    start = time.monotonic()
    limits = ParseLimits(tesseract=str(program), ocr_seconds=1)
    (page,) = await read(tmp_path, "a.pdf", testing.photographed(LINES), limits)
    assert (page.text, time.monotonic() - start < 60) == ("", True)
    assert not [child for child in psutil.process_iter(["cmdline"]) if child.info["cmdline"] == ["sleep", "1000"]]


async def test_reading_goes_on_from_a_page(tmp_path: Path) -> None:
    file = tmp_path / "document"
    file.write_bytes(testing.pdf("one", "two", "three"))
    pages = await testing.pages_of(file, "a.pdf", first=3)
    assert [(page.number, page.text) for page in pages] == [(3, "three")]
