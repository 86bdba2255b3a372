"""The processes that read documents, each forked from one that has loaded the libraries for it (`parse_server.py`)."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

from tunesmith_rag.pages import Page
from tunesmith_rag.parse import LINE_BYTES, ParseLimits, orders_for, pages_from


@dataclass(frozen=True)
class _Server:
    """The process that others are forked from, and the socket on which it is asked to."""

    process: Process
    channel: socket.socket


class Parsers:
    """Reads documents within `limits`, each in a process of its own that ends with the document."""

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._server: _Server | None = None
        self._starting = asyncio.Lock()

    async def prepare(self) -> socket.socket:
        """Start the process that others are forked from, unless it runs; return the socket on which it is asked to.

        Raises `OSError` when the system has no more processes.
        """
        async with self._starting:
            if self._server is None or self._server.process.returncode is not None:
                await self.close()
                self._server = await _start()
            return self._server.channel

    async def pages(self, path: Path, name: str, first: int) -> AsyncGenerator[Page]:
        """Yield the pages of the document at `path`, which its owner calls `name`, in order, from page `first` on.

        Close the iterator (`contextlib.aclosing`) to end the process early. Raises as `pages_from` does.
        """
        orders = orders_for(path, name, self._limits, first)
        with ExitStack() as ending:
            lines = await _fork(await self.prepare(), orders, ending)
            async with aclosing(pages_from(lines, self._limits)) as pages:
                async for page in pages:
                    yield page

    async def close(self) -> None:
        """End the process that others are forked from, and with it those that read."""
        server, self._server = self._server, None
        if server is not None:
            server.channel.close()
            await server.process.wait()


async def _start() -> _Server:
    ours, theirs = socket.socketpair()
    with theirs:
        # -I: neither the working directory nor the environment of the service decides what is imported there.
        command = [sys.executable, "-I", "-m", "tunesmith_rag.parse_server"]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=theirs.fileno(),
                stdout=DEVNULL,
                stderr=DEVNULL,
                start_new_session=True,
                # One arena: otherwise each thread reserves a part of the address space, which is limited.
                env={"MALLOC_ARENA_MAX": "1"},
            )
        except BaseException:
            ours.close()
            raise
    ours.setblocking(False)
    return _Server(process, ours)


async def _fork(channel: socket.socket, orders: bytes, ending: ExitStack) -> asyncio.StreamReader:
    """Have a process forked that follows `orders`; return what it writes. Closing `ending` ends the process."""
    held, leash = os.pipe()
    ending.callback(os.close, leash)
    ours, its = socket.socketpair()
    try:
        lines, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_BYTES)
        ending.callback(_abort, writer)
        socket.send_fds(channel, [b"1"], [its.fileno(), held])
    finally:
        its.close()
        os.close(held)
    writer.write(orders)
    return lines


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
