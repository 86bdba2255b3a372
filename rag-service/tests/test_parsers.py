"""Documents are read in processes that one process forks, and whatever becomes of any of them no document suffers."""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from tunesmith_rag import parse_server, testing
from tunesmith_rag.parse import ParseLimits, pages_from
from tunesmith_rag.parsers import Parsers

MANY = [f"This is page {number}." for number in range(1, 61)]


@pytest.fixture
async def reading() -> AsyncIterator[Parsers]:
    reading = Parsers(ParseLimits())
    await reading.prepare()
    yield reading
    await reading.close()


async def read(reading: Parsers, tmp_path: Path, *texts: str) -> list[str]:
    async with aclosing(reading.pages(written(tmp_path, *texts), "some.pdf", 1)) as pages:
        return [page.text async for page in pages]


def written(tmp_path: Path, *texts: str) -> Path:
    file = tmp_path / "some.pdf"
    file.write_bytes(testing.pdf(*texts))
    return file


def server_of(reading: Parsers) -> psutil.Process:
    assert reading._server is not None
    return psutil.Process(reading._server.process.pid)


async def gone(processes: list[psutil.Process]) -> None:
    """Return when all of them are; they are killed by another process, in its own time."""
    left = await asyncio.to_thread(psutil.wait_procs, processes, 60)
    assert left[1] == []


async def test_documents_are_read_at_once_each_in_a_process_of_its_own(reading: Parsers, tmp_path: Path) -> None:
    server = server_of(reading)
    file = written(tmp_path, *MANY)
    async with aclosing(reading.pages(file, "a.pdf", 1)) as one, aclosing(reading.pages(file, "b.pdf", 31)) as other:
        assert [(await anext(one)).text, (await anext(other)).text] == [MANY[0], MANY[30]]
        readers = server.children()
        assert len(readers) == 2
        assert len({os.getpgid(reader.pid) for reader in readers}) == 2
        assert [page.text async for page in other] == MANY[31:]
        assert [page.text async for page in one] == MANY[1:]
    await gone(readers)
    assert server_of(reading) == server


async def test_leaving_a_document_ends_its_process_and_those_that_it_started(reading: Parsers, tmp_path: Path) -> None:
    async with aclosing(reading.pages(written(tmp_path, *MANY), "a.pdf", 1)) as pages:
        await anext(pages)
        os.kill(server_of(reading).children()[0].pid, signal.SIGSTOP)  # it cannot notice by itself that nobody reads
        readers = server_of(reading).children(recursive=True)
    await gone(readers)
    assert await read(reading, tmp_path, "the next") == ["the next"]


async def test_when_the_process_that_forks_is_killed_another_takes_its_place(reading: Parsers, tmp_path: Path) -> None:
    killed = server_of(reading)
    async with aclosing(reading.pages(written(tmp_path, *MANY), "a.pdf", 1)) as pages:
        await anext(pages)
        killed.kill()
        assert [page.text async for page in pages] == MANY[1:]  # what was being read is not lost
    assert reading._server is not None
    await reading._server.process.wait()
    assert await read(reading, tmp_path, "all the same") == ["all the same"]
    assert server_of(reading) != killed


async def test_the_processes_end_when_their_service_is_gone(tmp_path: Path) -> None:
    reading = Parsers(ParseLimits())
    channel = await reading.prepare()
    async with aclosing(reading.pages(written(tmp_path, *MANY), "a.pdf", 1)) as pages:
        await anext(pages)
        processes = [server_of(reading), *server_of(reading).children(recursive=True)]
        processes[1].suspend()
        channel.close()  # as the system does for a process that was killed
        await gone(processes)


async def test_a_system_without_more_processes_is_no_fault_of_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_more)
    ours, its = socket.socketpair()
    assert parse_server._fork(its.detach()) == 0
    lines, writer = await asyncio.open_unix_connection(sock=ours)
    with pytest.raises(OSError, match="no process"):
        await anext(pages_from(lines, ParseLimits()))
    writer.close()
