"""A process waits for the next document, and whatever becomes of it no document suffers."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from tunesmith_rag import parse, testing
from tunesmith_rag.parse import ParseLimits
from tunesmith_rag.parsers import Parsers


@pytest.fixture
async def parsers() -> AsyncIterator[Parsers]:
    parsers = Parsers(ParseLimits())
    await parsers.prepare()
    yield parsers
    await parsers.close()


async def read(parsers: Parsers, tmp_path: Path, *texts: str) -> list[str]:
    file = tmp_path / "some.pdf"
    file.write_bytes(testing.pdf(*texts))
    async with aclosing(parsers.pages(file, "some.pdf", 1)) as pages:
        return [page.text async for page in pages]


async def test_a_document_is_read_by_the_process_that_waits_and_the_next_by_another(
    parsers: Parsers, tmp_path: Path
) -> None:
    first = parsers._ready
    await parsers.prepare()
    assert parsers._ready is first  # one waits at the most
    assert await read(parsers, tmp_path, "one", "two") == ["one", "two"]
    assert first is not None
    assert (parsers._ready, first.returncode is None) == (None, False)
    assert await read(parsers, tmp_path, "three") == ["three"]  # none was ready
    await parsers.prepare()
    assert parsers._ready is not None


async def test_a_process_that_was_killed_while_it_waited_is_replaced(parsers: Parsers, tmp_path: Path) -> None:
    assert parsers._ready is not None
    parsers._ready.kill()
    await parsers._ready.wait()
    assert await read(parsers, tmp_path, "all the same") == ["all the same"]


async def test_a_process_that_waits_ends_when_its_service_is_gone() -> None:
    waiting = await parse.start()
    assert waiting.stdin is not None
    waiting.stdin.close()  # as the system does for a process that was killed
    assert await waiting.wait() == 0
