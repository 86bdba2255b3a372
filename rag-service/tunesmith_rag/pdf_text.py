"""The text of a PDF's pages by PDFium, several processes side by side when there are pages enough.

Each process reads every n-th page; together they have the memory that is left to this one. Whatever ends one of them
(memory, CPU time, a defect of PDFium) is met again by the process that asked, which goes on alone, with all of its
limits: so the outcome is that of one process, and what bounds that one bounds all.
"""

import json
import os
import resource
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from pypdfium2 import PdfDocument, PdfiumError

from tunesmith_rag.layout import text_of
from tunesmith_rag.pages import storable

_PAGES_EACH = 4
"""The least that a process is started for; it takes as long as reading one or two pages."""


def texts_of(path: Path, numbers: Sequence[int], processes: int) -> Generator[str]:
    """Yield the text of the pages with these `numbers` (from 1) of the PDF at `path`, in order, read by at most
    `processes`; empty for a page that has none, or that PDFium cannot read.

    With more than one process this one is forked: no other thread of it may be inside PDFium. Close the iterator to end
    them early.
    """
    done = 0
    count = min(processes, len(numbers) // _PAGES_EACH)
    if count > 1:
        for text in _side_by_side(path, numbers, count):
            done += 1
            yield text
    with PdfDocument(path) as document:
        for number in numbers[done:]:
            yield _text(document, number)


def _text(document: PdfDocument, number: int) -> str:
    try:
        page = document[number - 1]
    except PdfiumError:
        return ""
    try:
        content = page.get_textpage()
        try:
            return storable(text_of(content))
        finally:
            content.close()
    except PdfiumError:
        return ""
    finally:
        page.close()


def _side_by_side(path: Path, numbers: Sequence[int], count: int) -> Iterator[str]:
    """Yield texts until one of the processes ends before its time."""
    with ExitStack() as ending:
        readers: list[BinaryIO] = []
        for place in range(count):
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                for reader in readers:  # so that the others notice when this process's parent is gone
                    reader.close()
                os.close(reading)
                _work(path, numbers[place::count], writing, count)
            ending.callback(_end, child)
            os.close(writing)
            readers.append(ending.enter_context(os.fdopen(reading, "rb")))
        for turn in range(len(numbers)):
            line = readers[turn % count].readline()
            if not line.endswith(b"\n"):
                return
            yield json.loads(line)


def _end(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _work(path: Path, numbers: Sequence[int], writing: int, count: int) -> NoReturn:
    """Write the text of each page as a line of JSON; never returns to what the parent was doing."""
    try:
        _share_memory(count)
        cpu_seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
        with PdfDocument(path) as document, os.fdopen(writing, "wb") as lines:
            for number in numbers:
                lines.write(json.dumps(_text(document, number)).encode() + b"\n")
                lines.flush()
                allow_cpu(cpu_seconds)
    finally:
        os._exit(0)


def _share_memory(count: int) -> None:
    """Take one of `count` equal parts, and one for the parent, of the memory that the parent's limit leaves it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + max(0, soft - used) // (count + 1), hard))


def allow_cpu(seconds: int) -> None:
    """Allow this process so many seconds of CPU time from now on, or what it likes (`RLIM_INFINITY`)."""
    if seconds != resource.RLIM_INFINITY:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + seconds, hard))
