"""Untrusted documents: good ones give their pages, each bad kind a sentence that says what to do, within its limits."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil
import pytest
from pypdfium2 import PdfDocument

from tunesmith_rag import pdf_text, testing
from tunesmith_rag.pages import DocumentRefused, Page
from tunesmith_rag.parse import ParseLimits, pages_from
from tunesmith_rag.pdf import Wanted, pages_of

GOOD = testing.pdf("The first page is about cats.", "The second page is about dogs.", "")
BUSY = testing.one_page(testing.packed(b"BT /F1 12 Tf (All work and no play) Tj ET\n", 60))
EXPLODING = testing.one_page(testing.packed(b" ", 500))


async def read(tmp_path: Path, content: bytes, limits: ParseLimits | None = None, name: str = "x.pdf") -> list[Page]:
    file = tmp_path / "document"
    file.write_bytes(content)
    return await testing.pages_of(file, name, limits)


async def refusal(tmp_path: Path, content: bytes, limits: ParseLimits | None = None) -> DocumentRefused:
    with pytest.raises(DocumentRefused) as caught:
        await read(tmp_path, content, limits)
    return caught.value


async def test_pages_come_in_order_with_their_numbers(tmp_path: Path) -> None:
    pages = await read(tmp_path, GOOD)
    assert [(page.number, page.total, page.text) for page in pages] == [
        (1, 3, "The first page is about cats."),
        (2, 3, "The second page is about dogs."),
        (3, 3, ""),
    ]


def test_a_long_document_is_read_by_several_processes_as_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_text, "_PAGES_EACH", 4)
    before = psutil.Process().children()
    texts = [f"This is page {number}." if number % 5 else "" for number in range(1, 31)]
    file = tmp_path / "long.pdf"
    file.write_bytes(testing.pdf(*texts))
    for processes in (1, 2, 3, 4):
        pages = list(pages_of(file, Wanted(first=4, processes=processes)))
        assert [(page.number, page.total, page.text) for page in pages] == [
            (number, 30, texts[number - 1]) for number in range(4, 31)
        ]
    assert psutil.Process().children() == before


def test_when_one_of_several_processes_ends_the_others_work_is_done_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "long.pdf"
    file.write_bytes(testing.pdf(*(f"This is page {number}." for number in range(1, 21))))
    monkeypatch.setattr(pdf_text, "_PAGES_EACH", 4)
    before = psutil.Process().children()
    asked, read_one = os.getpid(), pdf_text._text

    def dies_on_page_seven(document: PdfDocument, number: int) -> str:
        if number == 7 and os.getpid() != asked:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_one(document, number)

    monkeypatch.setattr(pdf_text, "_text", dies_on_page_seven)
    pages = list(pages_of(file, Wanted(processes=2)))
    assert [page.text for page in pages] == [f"This is page {number}." for number in range(1, 21)]
    assert psutil.Process().children() == before


def test_the_processes_end_with_a_document_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "long.pdf"
    file.write_bytes(testing.pdf(*(f"This is page {number}." for number in range(1, 21))))
    monkeypatch.setattr(pdf_text, "_PAGES_EACH", 4)
    before = psutil.Process().children()
    with pytest.raises(DocumentRefused, match="the limit is 10"):
        list(pages_of(file, Wanted(max_pages=10, processes=2)))
    assert psutil.Process().children() == before


async def test_a_pdf_that_is_encrypted_for_its_permissions_only_is_read(tmp_path: Path) -> None:
    pages = await read(tmp_path, testing.encrypted(GOOD, user_password=""))
    assert "cats" in pages[0].text


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        pytest.param(b"", "invalid_file", "is empty", id="empty"),
        pytest.param(b"\0" * 5000, "invalid_file", "is empty", id="zeros"),
        pytest.param(b"<html>hello</html>", "unsupported_file", "not a PDF", id="no pdf"),
        pytest.param(GOOD[: len(GOOD) // 2], "invalid_file", "cut off", id="truncated"),
        pytest.param(testing.encrypted(GOOD, "secret"), "invalid_file", "without the password", id="encrypted"),
        pytest.param(b"%PDF-1.7\n" + bytes(range(256)) * 9 + b"%%EOF", "invalid_file", "damaged", id="garbage"),
        pytest.param(testing.page_tree_of_itself(), "invalid_file", "Open it in a PDF viewer", id="looping"),
        pytest.param(testing.page_tree_of_millions(), "invalid_file", "far more data", id="exploding pages"),
        pytest.param(testing.one_page(testing.packed(b" ", 500)), "invalid_file", "or split it", id="exploding stream"),
    ],
)
async def test_a_bad_document_is_refused_with_what_to_do(tmp_path: Path, content: bytes, code: str, says: str) -> None:
    refused = await refusal(tmp_path, content)
    assert refused.code == code
    assert says in str(refused)


async def test_a_file_of_a_linearized_pdf_that_is_shorter_than_it_says_is_cut_off(tmp_path: Path) -> None:
    content = GOOD.replace(b"%PDF-1.3\n", b"%PDF-1.3\n9 0 obj << /Linearized 1 /L 999999 >> endobj\n")
    assert "cut off" in str(await refusal(tmp_path, content))


async def test_a_document_that_keeps_its_reader_busy_is_stopped(tmp_path: Path) -> None:
    start = time.monotonic()
    refused = await refusal(tmp_path, BUSY, ParseLimits(seconds=1.0))
    assert "was stopped" in str(refused) or "its reader stopped" in str(refused)
    assert time.monotonic() - start < 60
    assert not [child for child in psutil.Process().children() if "tunesmith_rag.parse_server" in child.cmdline()]


async def test_memory_is_capped(tmp_path: Path) -> None:
    refused = await refusal(tmp_path, BUSY, ParseLimits(memory_mb=128))
    assert "memory" in str(refused)


async def test_too_many_pages_are_named_with_both_numbers(tmp_path: Path) -> None:
    assert "3 pages and the limit is 2" in str(await refusal(tmp_path, GOOD, ParseLimits(max_pages=2)))


async def test_too_much_text_is_refused(tmp_path: Path) -> None:
    refused = await refusal(tmp_path, GOOD, ParseLimits(max_characters=40))
    assert "more than 40 characters of text (reached on page 2 of 3)" in str(refused)


async def test_a_page_with_a_damaged_content_stream_is_told_apart(tmp_path: Path) -> None:
    broken = testing.one_page(testing.stream(b"BT /F1 12 Tf [(a) (never closed TJ ET"))
    pages = await read(tmp_path, broken)
    assert [(page.readable, page.text) for page in pages] == [(False, "")]


async def test_what_stands_before_the_damage_is_read(tmp_path: Path) -> None:
    pages = await read(tmp_path, testing.one_page(testing.stream(b"BT /F1 12 Tf (hello) Tj ET (never closed")))
    assert [(page.readable, page.text) for page in pages] == [(True, "hello")]


async def test_what_no_database_stores_is_dropped(tmp_path: Path) -> None:
    pages = await read(tmp_path, testing.one_page(testing.stream(rb"BT /F1 12 Tf (nul\000 bell\007 end) Tj ET")))
    assert pages[0].text == "nul bell end"


async def test_who_waits_for_a_page_can_be_cancelled_at_the_moment_it_comes() -> None:
    for steps in range(8):
        lines = asyncio.StreamReader()
        lines.feed_data(b'{"begun": true}\n')
        pages = pages_from(lines, ParseLimits())
        taking = asyncio.ensure_future(_take_all(pages))
        for _ in range(8):  # until it waits for a line
            await asyncio.sleep(0)
        lines.feed_data(b'{"number": 1, "total": 2, "text": "One."}\n')
        for _ in range(steps):
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.wait({taking}, timeout=1)
        cancelled = taking.done() and taking.cancelled()
        lines.feed_eof()
        await asyncio.gather(taking, return_exceptions=True)
        assert cancelled, f"{steps} steps after the page came"


async def _take_all(pages: AsyncGenerator[Page]) -> None:
    async for _ in pages:
        pass
