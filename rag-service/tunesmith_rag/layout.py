"""The text of one PDF page with its paragraphs, headings and table rows kept apart.

PDFium gives the words of a page in reading order, one line of print a line. What a reader sees besides, white space and
larger or bolder print, is put back from the places of the lines: a blank line before a paragraph and around a heading,
where the splitter then prefers to cut, and a bar between the cells of a table row. No word is added, left out or moved.
"""

import ctypes
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import pypdfium2.raw as pdfium
from pypdfium2 import PdfTextPage

_PARAGRAPH_GAP = 1.3
"""How many usual line distances apart two lines are that do not belong to one paragraph."""
_HEADING_HEIGHT = 1.2
"""How many times the height of the page's usual print a heading has."""
_BOLD_WEIGHT = 600
_CELL_GAP = 1.5
"""How many heights of the print lie between two cells of a table row; between words it is about a third."""
_CHARACTER_WIDTH = 0.5
"""How many heights a character of running text takes at the most, on average; a row with wide gaps takes more."""

_Handle = Any
"""PDFium's own name of a text page: calls with it cost a third of those with pypdfium2's object."""


@dataclass(frozen=True)
class _Line:
    """A line of print: its text, and of its first character the upper edge and the height in points."""

    text: str
    top: float
    height: float
    bold: bool


def text_of(page: PdfTextPage) -> str:
    """Return the text of a page, lines ended by a line feed."""
    text = page.get_text_range()
    look = _Look(page.raw, page.count_chars() == len(text))
    lines, start = [], 0
    for line in text.split("\r\n"):
        if line.strip():
            lines.append(look.line(line, start))
        start += len(line) + 2
    if not lines:
        return ""
    large = _HEADING_HEIGHT * _usual_height(lines)
    far = _PARAGRAPH_GAP * _usual_distance(lines)
    parts = [lines[0].text]
    for before, after in pairwise(lines):
        # Upwards: the next column, or a foot that was drawn before the text.
        apart = before.top - after.top > far or after.top > before.top + after.height
        parts.append("\n\n" if apart or _is_heading(before, large) != _is_heading(after, large) else "\n")
        parts.append(after.text)
    return "".join(parts)


class _Look:
    """Looks at characters of a page. Each look is a call into PDFium, and their number is what reading a page takes
    beside PDFium's own work; so there are no more than a line needs, all into one box.

    `aligned` says that the page's text has every character that PDFium counts, so that their numbers are the same.
    """

    def __init__(self, page: _Handle, aligned: bool) -> None:
        self._page = page
        self._aligned = aligned
        self._box = pdfium.FS_RECTF()
        self._into = ctypes.byref(self._box)

    def line(self, text: str, start: int) -> _Line:
        """Return the line whose first character is number `start` of the page's text."""
        page, box = self._page, self._box
        first, last = self._number(start), self._number(start + len(text.rstrip()) - 1)
        pdfium.FPDFText_GetLooseCharBox(page, first, self._into)
        left, top, height = box.left, box.top, box.top - box.bottom
        pdfium.FPDFText_GetLooseCharBox(page, last, self._into)
        if box.right - left > _CHARACTER_WIDTH * height * len(text):
            text = self._with_cells(text, first, _CELL_GAP * height)
        weigh = pdfium.FPDFText_GetFontWeight
        bold = weigh(page, first) >= _BOLD_WEIGHT and weigh(page, last) >= _BOLD_WEIGHT
        return _Line(text, top, height, bold)

    def _number(self, place: int) -> int:
        return place if self._aligned else int(pdfium.FPDFText_GetCharIndexFromTextIndex(self._page, place))

    def _with_cells(self, text: str, first: int, gap: float) -> str:
        """Return the line that begins at character `first`, with a bar at each space wider than `gap` points."""
        page, box, into, look = self._page, self._box, self._into, pdfium.FPDFText_GetLooseCharBox
        parts, begun, space = [], 0, text.find(" ", 1)
        while 0 < space < len(text) - 1:
            look(page, first + space + 1, into)
            left = box.left
            look(page, first + space - 1, into)
            if left - box.right > gap:
                parts.append(text[begun:space])
                begun = space + 1
            space = text.find(" ", space + 1)
        return " | ".join([*parts, text[begun:]])


def _usual_height(lines: list[_Line]) -> float:
    """Return the height that most characters of the page have."""
    characters: dict[float, int] = {}
    for line in lines:
        height = round(line.height, 1)
        characters[height] = characters.get(height, 0) + len(line.text)
    return max(characters, key=lambda height: characters[height])


def _usual_distance(lines: list[_Line]) -> float:
    distances = [before.top - line.top for before, line in pairwise(lines) if before.top > line.top]
    return median(distances) if distances else 0.0


def _is_heading(line: _Line, large: float) -> bool:
    return line.bold or line.height > large
