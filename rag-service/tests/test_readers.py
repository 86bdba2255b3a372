"""A process waits for the next document, and whatever becomes of it no document suffers."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from tunesmith_rag import parse, testing
from tunesmith_rag.parse import ParseLimits
from tunesmith_rag.readers import Readers


@pytest.fixture
async def readers() -> AsyncIterator[Readers]:
    readers = Readers(ParseLimits())
    await readers.prepare()
    yield readers
    await readers.close()


async def read(readers: Readers, tmp_path: Path, *texts: str) -> list[str]:
    file = tmp_path / "some.pdf"
    file.write_bytes(testing.pdf(*texts))
    async with aclosing(readers.pages(file, "some.pdf", 1)) as pages:
        return [page.text async for page in pages]


async def test_a_document_is_read_by_the_process_that_waits_and_the_next_by_another(
    readers: Readers, tmp_path: Path
) -> None:
    first = readers._ready
    await readers.prepare()
    assert readers._ready is first  # one waits at the most
    assert await read(readers, tmp_path, "one", "two") == ["one", "two"]
    assert first is not None
    assert (readers._ready, first.returncode is None) == (None, False)
    assert await read(readers, tmp_path, "three") == ["three"]  # none was ready
    await readers.prepare()
    assert readers._ready is not None


async def test_a_process_that_was_killed_while_it_waited_is_replaced(readers: Readers, tmp_path: Path) -> None:
    assert readers._ready is not None
    readers._ready.kill()
    await readers._ready.wait()
    assert await read(readers, tmp_path, "all the same") == ["all the same"]


async def test_a_process_that_waits_ends_when_its_service_is_gone() -> None:
    waiting = await parse.start()
    assert waiting.stdin is not None
    waiting.stdin.close()  # as the system does for a process that was killed
    assert await waiting.wait() == 0
