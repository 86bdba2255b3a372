"""The text of a PDF's pages by PDFium, several processes side by side when there are pages enough.

Each process, the one that asks among them, reads every n-th page; the others have a part each of the memory that is
left to that one. Whatever ends one of them (memory, CPU time, a defect of PDFium) is met again by the process that
asks, which reads what they leave, with all of its limits: so the outcome is that of one process.
"""

import gc
import json
import os
import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

import pypdfium2.raw as pdfium
from pypdfium2 import PdfDocument, PdfiumError

from tunesmith_rag.layout import text_of
from tunesmith_rag.pages import storable

_PAGES_EACH = 16
"""The least that a process is started for: to start it takes as long as reading several pages."""


@contextmanager
def helpers(path: Path, first: int, processes: int) -> Iterator[list[BinaryIO]]:
    """Start processes that read, with this one, the pages of the PDF at `path` from number `first` on; `processes` with
    this one at the most. Gives what each of them writes, for `texts_of`; none for a short PDF. They end with the block.

    They are forked: no other thread of this process may be inside PDFium.
    """
    numbers = range(first, _pages_in(path) + 1)
    count = max(1, min(processes, len(numbers) // _PAGES_EACH))
    with ExitStack() as ending:
        readers: list[BinaryIO] = []
        for place in range(1, count):
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
        yield readers


def texts_of(document: PdfDocument, numbers: Sequence[int], readers: Sequence[BinaryIO]) -> Iterator[str]:
    """Yield the text of the pages with these `numbers`, all from the first that the helpers were started for, in order;
    empty for a page that has none, or that PDFium cannot read.
    """
    count = len(readers) + 1
    for turn, number in enumerate(numbers):
        line = readers[turn % count - 1].readline() if turn % count else b""
        yield json.loads(line) if line.endswith(b"\n") else _text(document, number)


def _pages_in(path: Path) -> int:
    try:
        with PdfDocument(path) as document:
            return len(document)
    except PdfiumError:
        return 0  # whoever asks will meet this, too, and say what is wrong


def _text(document: PdfDocument, number: int) -> str:
    page = pdfium.FPDF_LoadPage(document, number - 1)
    if not page:
        return ""
    try:
        content = pdfium.FPDFText_LoadPage(page)
        if not content:
            return ""
        try:
            return storable(text_of(content))
        finally:
            pdfium.FPDFText_ClosePage(content)
    finally:
        pdfium.FPDF_ClosePage(page)


def _end(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _work(path: Path, numbers: Sequence[int], writing: int, count: int) -> NoReturn:
    """Write the text of each page as a line of JSON; never returns to what the parent was doing."""
    try:
        gc.disable()  # it would touch, and so copy, memory that is shared with the parent
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
    """Take one of `count` equal parts of the memory that the parent's limit leaves it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + max(0, soft - used) // count, hard))


def allow_cpu(seconds: int) -> None:
    """Allow this process so many seconds of CPU time from now on, or what it likes (`RLIM_INFINITY`)."""
    if seconds != resource.RLIM_INFINITY:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + seconds, hard))
