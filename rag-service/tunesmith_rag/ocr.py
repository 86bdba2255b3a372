"""Text from pictures of pages, by Tesseract where it is installed. Runs in the child process that reads a document.

Tesseract is a child of that process and has its limits on memory, CPU time and files; it gets the picture on its
standard input and gives the text on its standard output, so nothing is written anywhere.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from pypdfium2 import PdfPage

_DOTS_PER_INCH = 300
"""What Tesseract is trained for."""
_POINTS_PER_INCH = 72
_MOST_PIXELS = 40_000_000
"""More than an A3 page has at 300 dots per inch; a larger page is drawn smaller."""


@dataclass(frozen=True)
class Tesseract:
    """Where the program is, which languages it looks for (`eng+deu`), and how long it may take for a page.

    At most `most_pages` pages of a document are recognised; `announce` is told the number of each before it begins.
    """

    program: str
    languages: str
    seconds: float
    most_pages: int
    announce: Callable[[int], None]

    def read(self, page: PdfPage) -> str:
        """Return the text in the picture of `page`; empty when there is none or it cannot be found out in time."""
        width, height = page.get_size()
        scale = min(_DOTS_PER_INCH / _POINTS_PER_INCH, (_MOST_PIXELS / max(1.0, width * height)) ** 0.5)
        dots = round(scale * _POINTS_PER_INCH)
        command = [self.program, "stdin", "stdout", "-l", self.languages, "--dpi", str(dots)]
        try:
            done = subprocess.run(
                command,
                input=_picture(page, scale),
                capture_output=True,
                timeout=self.seconds,
                env={"OMP_THREAD_LIMIT": "1"},
                check=True,
            )
        except (subprocess.SubprocessError, OSError):
            return ""
        return done.stdout.decode("utf-8", "replace")


def _picture(page: PdfPage, scale: float) -> bytes:
    """Return the page in grey as a PGM file (netpbm's, the simplest there is)."""
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        rows = memoryview(bitmap.buffer).cast("B")
        lines = (rows[row * bitmap.stride : row * bitmap.stride + bitmap.width] for row in range(bitmap.height))
        return b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + b"".join(lines)
    finally:
        bitmap.close()
