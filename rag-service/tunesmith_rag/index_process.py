"""The process that has Chroma (`index_child.py`), as the service sees it: started, asked, and started again."""

import asyncio
import itertools
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith_rag.frames import arrived, frame
from tunesmith_rag.neighbours import Graph
from tunesmith_shared.errors import TunesmithError, Unavailable

_logger = logging.getLogger(__name__)

_TRIES = 2


@dataclass(frozen=True)
class Orders:
    """Which Chroma the process opens: the server at `chroma_url`, or `<data_dir>/chroma` when that is empty, in the
    name of the process `owner`. With `anew` it begins with an empty one.
    """

    chroma_url: str
    data_dir: Path
    graph: Graph
    owner: int
    anew: bool


@dataclass(frozen=True)
class Answer:
    """What came of call `number`, or of opening Chroma: a result, or an error of ours, or what went wrong otherwise."""

    number: int
    result: Any = None
    error: TunesmithError | None = None
    trace: str = ""


class _Ended(Exception):
    """The process is gone before it answered."""


@dataclass
class _Running:
    """The process while it runs."""

    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    over: bool = False

    def __post_init__(self) -> None:
        self.reading = asyncio.create_task(self._read())

    async def ask(self, *call: Any) -> Any:
        """Send `call` and return the result; raises `_Ended` when the process is gone before."""
        if self.over:
            raise _Ended
        number = next(self.numbers)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        self.writer.write(frame((number, *call)))
        return await self.waiting[number]

    async def _read(self) -> None:
        """Give every answer to who waits for it, until the process ends."""
        try:
            while True:
                answer: Answer = await arrived(self.reader)
                waiting = self.waiting.pop(answer.number)
                if waiting.done():  # who asked was cancelled
                    continue
                if answer.trace:
                    _logger.error("a call of the vector database failed\n%s", answer.trace)
                if answer.error is not None:
                    waiting.set_exception(answer.error)
                else:
                    waiting.set_result(answer.result)
        except (EOFError, ConnectionError):
            return
        finally:
            self.over = True
            self.writer.close()  # so that it ends in any case
            for waiting in self.waiting.values():
                if not waiting.done():
                    waiting.set_exception(_Ended())

    async def end(self) -> None:
        """Let it finish what it was asked, and wait for its end."""
        await asyncio.gather(*self.waiting.values(), return_exceptions=True)
        self.writer.close()
        await self.process.wait()
        await self.reading


class IndexProcess:
    """Calls `Vectors` in the process that has Chroma, which is started again when it ends by itself."""

    def __init__(self, chroma_url: str, data_dir: Path, graph: Graph) -> None:
        self._orders = Orders(chroma_url, data_dir, graph, os.getpid(), anew=False)
        self._running: _Running | None = None
        self._starting = asyncio.Lock()

    async def call(self, name: str, *arguments: Any) -> Any:
        """Return what the method `name` of `Vectors` gives; a process that ended in the middle is asked once again,
        since whatever it had done can be done again.

        Raises as `Vectors.call` and as opening Chroma does, and `Unavailable` when the process ends both times.
        """
        status = None
        for _ in range(_TRIES):
            running = await self.start()
            try:
                return await running.ask(name, *arguments)
            except _Ended:
                status = await running.process.wait()
        raise Unavailable(
            f"The process that has the vector database ended twice in a row (status {status}); it is started again at "
            "the next call. See whether there is enough memory; if it goes on, rebuild the index with "
            "`python -m tunesmith_rag.rebuild`.",
            retry_after=5,
        )

    async def start(self, *, anew: bool = False) -> _Running:
        """Start the process unless it runs; return it. With `anew` it begins again, with an empty Chroma.

        Raises as opening Chroma does (`chroma.py`), and `Unavailable` when the process does not start.
        """
        async with self._starting:
            running = self._running
            if running is None or running.over or anew:
                if running is not None and running.over:
                    status = await running.process.wait()
                    _logger.error("the process that has the vector database ended by itself (status %s)", status)
                elif running is not None:
                    running.process.kill()  # what it is asked meanwhile is asked again of the next
                await self._end()
                running = self._running = await _start(replace(self._orders, anew=anew))
            return running

    async def start_anew(self) -> None:
        """Begin with an empty Chroma, whether what there is can be read, or answers, or not."""
        await self.start(anew=True)

    async def close(self) -> None:
        """End the process, which finishes what it was asked first."""
        async with self._starting:
            await self._end()

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running.end()


async def _start(orders: Orders) -> _Running:
    ours, theirs = socket.socketpair()
    with theirs:
        # -I: neither the working directory nor the environment of the service decides what is imported there.
        command = [sys.executable, "-I", "-m", "tunesmith_rag.index_child"]
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=theirs.fileno(), stdout=DEVNULL, start_new_session=True
            )
        except BaseException:
            ours.close()
            raise
    try:
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        writer.write(frame(orders))
        opened: Answer = await arrived(reader)
    except BaseException as error:
        ours.close()
        process.kill()
        status = await process.wait()
        if isinstance(error, (EOFError, ConnectionError)):
            raise Unavailable(f"The process that has the vector database did not start (status {status}).") from error
        raise
    if opened.trace:
        _logger.error("the vector database cannot be opened\n%s", opened.trace)
    if opened.error is not None:
        writer.close()
        await process.wait()
        raise opened.error
    return _Running(process, reader, writer)
