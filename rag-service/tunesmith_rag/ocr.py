"""Text from pictures of pages, by Tesseract where it is installed. Runs in the child process that reads a document.

Tesseract is a child of that process and has its limits on memory, CPU time and files; it gets the picture on its
standard input and gives the text on its standard output, so nothing is written anywhere. It works on several pages of a
document side by side, each on one processor, which is faster than all processors on one page.
"""

import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Semaphore

from pypdfium2 import PdfDocument, PdfPage

from tunesmith_rag.pages import Page, storable

_DOTS_PER_INCH = 300
"""What Tesseract is trained for."""
_POINTS_PER_INCH = 72
_MOST_PIXELS = 40_000_000
"""More than an A3 page has at 300 dots per inch; a larger page is drawn smaller."""
_MOST_WAITING = 64
"""Pages that are ready and wait for one before them that is being recognised."""


@dataclass(frozen=True)
class Tesseract:
    """Where the program is, which languages it looks for (`eng+deu`), and how long it may take for a page.

    At most `most_pages` pages of a document are recognised, `at_once` of them at the same time; `announce` is told the
    number of each before it begins.
    """

    program: str
    languages: str
    seconds: float
    most_pages: int
    at_once: int
    announce: Callable[[int], None]

    def read(self, picture: "Picture") -> str:
        """Return the text in `picture`; empty when there is none or it cannot be found out in time."""
        command = [self.program, "stdin", "stdout", "-l", self.languages, "--dpi", str(picture.dots_per_inch)]
        try:
            done = subprocess.run(
                command,
                input=picture.content,
                capture_output=True,
                timeout=self.seconds,
                env={"OMP_THREAD_LIMIT": "1"},
                check=True,
            )
        except (subprocess.SubprocessError, OSError):
            return ""
        return done.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class Picture:
    """A page in grey as a PGM file (netpbm's, the simplest there is)."""

    content: bytes
    dots_per_inch: int


def recognised(pages: Iterator[Page], document: PdfDocument, tesseract: Tesseract) -> Iterator[Page]:
    """Yield `pages` of `document` in order, those without text with what `tesseract` finds in their pictures.

    Pages are drawn here, one after the other, since PDFium is for one thread; there are never more pictures than pages
    being recognised.
    """
    left = tesseract.most_pages
    places = Semaphore(tesseract.at_once)
    waiting: deque[Future[Page]] = deque()

    def recognise(page: Page, picture: Picture) -> Page:
        try:
            text = storable(tesseract.read(picture))
        finally:
            places.release()
        return replace(page, text=text, recognised=bool(text))

    with ThreadPoolExecutor(tesseract.at_once) as threads:
        for page in pages:
            if left and page.readable and not page.text:
                left -= 1
                places.acquire()
                tesseract.announce(page.number)
                waiting.append(threads.submit(recognise, page, _drawn(document, page.number)))
            else:
                waiting.append(Future())
                waiting[-1].set_result(page)
            while waiting and (waiting[0].done() or len(waiting) > _MOST_WAITING):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _drawn(document: PdfDocument, number: int) -> Picture:
    page = document[number - 1]
    try:
        width, height = page.get_size()
        scale = min(_DOTS_PER_INCH / _POINTS_PER_INCH, (_MOST_PIXELS / max(1.0, width * height)) ** 0.5)
        return Picture(_in_grey(page, scale), round(scale * _POINTS_PER_INCH))
    finally:
        page.close()


def _in_grey(page: PdfPage, scale: float) -> bytes:
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        rows = memoryview(bitmap.buffer).cast("B")
        lines = (rows[row * bitmap.stride : row * bitmap.stride + bitmap.width] for row in range(bitmap.height))
        return b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + b"".join(lines)
    finally:
        bitmap.close()
