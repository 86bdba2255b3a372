"""The processes that read documents, one of them started ahead: that takes as long as reading fifty pages."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from tunesmith_rag.pages import Page
from tunesmith_rag.parse import ParseLimits, end, parse, start


class Parsers:
    """Reads documents within `limits`, each in a process of its own that ends with the document."""

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._ready: Process | None = None
        self._preparing = asyncio.Lock()

    async def prepare(self) -> None:
        """Start a process for the next document, unless there is one. Raises `OSError` when the system has no more."""
        async with self._preparing:
            self._ready = self._ready or await start()

    async def pages(self, path: Path, name: str, first: int) -> AsyncGenerator[Page]:
        """Yield the pages of the document at `path`, which its owner calls `name`, as `parse` does."""
        async with aclosing(parse(path, name, self._limits, first, self._take())) as pages:
            async for page in pages:
                yield page

    async def close(self) -> None:
        """End the process that waits."""
        if self._ready is not None:
            await end(self._ready)

    def _take(self) -> Process | None:
        """Return the process that is ready; None when there is none, or when something ended it."""
        child, self._ready = self._ready, None
        return child if child is not None and child.returncode is None else None
