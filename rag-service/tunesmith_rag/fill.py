"""Bring one document's chunks into an index: pages are read, split, embedded and written at the same time.

    read (child process) -> split -> embed -> add          each stage a little ahead of the next, none far

Embedding is the slow stage, so nothing ever makes it wait; what waits between the stages is bounded, so memory does not
grow with the document. A fill that was cut off goes on where it was: pages are kept in the work folder as they come,
chunks have fixed numbers, and those that `Progress` says are written are not embedded again.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_rag.ahead import ahead, overlapping
from tunesmith_rag.embed import Embedder, Vector
from tunesmith_rag.index import Chunk
from tunesmith_rag.legs import Legs
from tunesmith_rag.pages import DocumentRefused, Page
from tunesmith_rag.parsers import Parsers
from tunesmith_rag.split import effective_chunking, page_splitter, strategy_of
from tunesmith_rag.workfiles import WorkFolder

Report = Callable[..., Awaitable[None]]
"""Takes columns of the document's row (`pages_done=20`) whenever they change."""

_PAGES_AHEAD = 32
_WINDOWS_AHEAD = 1
_BATCHES = 32
"""Batches of the embedding model in one window: sorted by length, and written to the index, together."""
_FIRST_BATCHES = 4
"""... in the first; each of the next has twice as many. So embedding begins early, and so does writing."""
_PROGRESS_PAGES = 20


@dataclass(frozen=True)
class Order:
    """What to bring in, from where, to where. `written` chunks are in the index already."""

    document_id: str
    file: Path
    filename: str
    chunking: Mapping[str, Any]
    facts: Mapping[str, Any]
    index_name: str
    model: str
    written: int = 0


@dataclass
class Tools:
    """What a fill works with."""

    embedder: Embedder
    index: Legs
    parsers: Parsers
    batch: int
    patience: float
    check_dimension: Callable[[int], Awaitable[None]]
    """Raises when vectors of this many numbers do not belong into the index."""


@dataclass
class _Seen:
    """What became of the pages so far."""

    pages: int = 0
    total: int = 0
    chunks: int = 0
    text_bytes: int = 0
    facts: dict[str, list[int]] = field(default_factory=dict)

    def note(self, page: Page) -> None:
        self.pages, self.total = page.number, page.total
        if page.recognised:
            self._add("pages_recognised", page.number)
        elif not page.text:
            self._add("pages_without_text" if page.readable else "pages_unreadable", page.number)

    def _add(self, name: str, number: int) -> None:
        self.facts.setdefault(name, []).append(number)


class Fill:
    """One document on its way. `run` does it all."""

    def __init__(self, order: Order, tools: Tools, folder: WorkFolder, report: Report) -> None:
        self._order = order
        self._tools = tools
        self._folder = folder
        self._report = report
        self._seen = _Seen()

    async def run(self) -> None:
        """Bring the document in; nothing of it is visible yet.

        Raises `DocumentRefused` when it cannot be read, and `TunesmithError` when the model or the index stays away.
        """
        async with aclosing(ahead(self._embedded(), _WINDOWS_AHEAD)) as windows:
            async for chunks, vectors in windows:
                await self._tools.check_dimension(len(vectors[0]))
                await self._tools.index.add(self._order.index_name, chunks, vectors, self._order.facts)
                await self._report(chunks_done=chunks[-1].index + 1)
        seen = self._seen
        _refuse_without_text(seen)
        await self._report(chunks_total=seen.chunks, usage_bytes=seen.text_bytes, facts=seen.facts)

    async def _embedded(self) -> AsyncGenerator[tuple[list[Chunk], list[Vector]]]:
        """Yield windows of chunks that are not in the index yet, with their vectors."""
        tools, order = self._tools, self._order

        async def embed(chunks: list[Chunk]) -> list[Vector]:
            return await tools.embedder.embed(order.model, [chunk.text for chunk in chunks], tools.patience)

        # No processor waits for the last batch of a window, nor for the next window's tokens.
        windows = overlapping(ahead(self._windows(), _WINDOWS_AHEAD), embed, _WINDOWS_AHEAD)
        async with aclosing(windows):
            async for window in windows:
                yield window

    async def _windows(self) -> AsyncGenerator[list[Chunk]]:
        window: list[Chunk] = []
        size, largest = self._tools.batch * _FIRST_BATCHES, self._tools.batch * _BATCHES
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                if chunk.index >= self._order.written:
                    window.append(chunk)
                if len(window) == size:
                    yield window
                    window, size = [], min(2 * size, largest)
        # The processors have nothing to do while what was embedded last is written, so that should be little; every
        # write takes as long as embedding two batches, though.
        half = len(window) // 2 if len(window) > size // 4 else 0
        for part in (window[:half], window[half:]):
            if part:
                yield part

    async def _chunks(self) -> AsyncGenerator[Chunk]:
        """Yield the chunks of all pages in order, numbered."""
        split = None
        async with aclosing(ahead(self._pages(), _PAGES_AHEAD)) as pages:
            async for page in pages:
                split = split or await self._splitter()
                for text in await asyncio.to_thread(split, page.text):
                    self._seen.text_bytes += len(text.encode())
                    yield Chunk(self._order.document_id, self._seen.chunks, page.number, text)
                    self._seen.chunks += 1
        await self._report(chunks_total=self._seen.chunks)

    async def _splitter(self) -> Callable[[str], list[str]]:
        """Return what splits a page for the embedding model; pages are read on while the model is waited for."""
        model = await self._tools.embedder.model(self._order.model, self._tools.patience)
        chunking = effective_chunking(self._order.chunking, model.max_tokens)
        await self._report(chunking_strategy=strategy_of(chunking))
        return page_splitter(chunking, model.count)

    async def _pages(self) -> AsyncGenerator[Page]:
        """Yield every page: those that the work folder has, then the others from the file."""
        for page in await asyncio.to_thread(self._folder.known_pages):
            await self._note(page)
            yield page
        seen = self._seen
        if seen.pages and seen.pages == seen.total:
            return
        reading = self._tools.parsers.pages(self._order.file, self._order.filename, seen.pages + 1)
        with self._folder.more_pages() as journal:
            async with aclosing(reading) as pages:
                async for page in pages:
                    journal.write(page)
                    await self._note(page)
                    yield page

    async def _note(self, page: Page) -> None:
        self._seen.note(page)
        if page.number % _PROGRESS_PAGES == 0 or page.number == page.total:
            await self._report(pages_total=page.total, pages_done=page.number)


def _refuse_without_text(seen: _Seen) -> None:
    if seen.chunks:
        return
    if seen.facts.get("pages_unreadable"):
        raise DocumentRefused(
            "invalid_file",
            "No page of the document could be read: its content is damaged. Print it as a new PDF and upload that.",
        )
    raise DocumentRefused(
        "invalid_file",
        f"The document has no text on any of its {seen.total} pages: they are probably scanned images in which no text "
        "was recognised. Install Tesseract where Tunesmith runs, or recognise the text first, for example with "
        "`ocrmypdf in.pdf out.pdf`, and upload the result.",
    )
