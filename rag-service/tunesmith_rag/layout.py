"""The text of one PDF page with its paragraphs, headings and table rows kept apart.

PDFium gives the words of a page in reading order, one line of print a line. What a reader sees besides, white space and
larger or bolder print, is put back from the places of the lines: a blank line before a paragraph and around a heading,
where the splitter then prefers to cut, and a bar between the cells of a table row. No word is added, left out or moved.
"""

import ctypes
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import pypdfium2.raw as pdfium

_PARAGRAPH_GAP = 1.3
"""How many usual line distances apart two lines are that do not belong to one paragraph."""
_HEADING_HEIGHT = 1.2
"""How many times the height of the page's usual print a heading has."""
_BOLD_WEIGHT = 600
_CELL_GAP = 1.5
"""How many heights of the print lie between two cells of a table row; between words it is about a third."""
_CHARACTER_WIDTH = 0.5
"""How many heights a character of running text takes at the most, on average; a row with wide gaps takes more."""

TextPage = Any
"""PDFium's own handle of a text page."""


def _unchecked(function: Any) -> Callable[..., int]:
    """Return one of PDFium's functions as a call that does not check the types of its arguments: to check and convert
    them takes three times as long as to look at a character. Numbers and a page's handle are passed as they are.
    """
    return ctypes.cast(function, ctypes.CFUNCTYPE(ctypes.c_int))


_loose_box = _unchecked(pdfium.FPDFText_GetLooseCharBox)
_weight = _unchecked(pdfium.FPDFText_GetFontWeight)
_character_of_text = _unchecked(pdfium.FPDFText_GetCharIndexFromTextIndex)


class _Line(NamedTuple):
    """A line of print: its text, and of its first character the upper edge and the height in points."""

    text: str
    top: float
    height: float
    bold: bool


def text_of(page: TextPage) -> str:
    """Return the text of a page, lines ended by a line feed."""
    count = pdfium.FPDFText_CountChars(page)
    text = _characters(page, count)
    look = _Look(page, count == len(text))
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


def _characters(page: TextPage, count: int) -> str:
    """Return what the `count` characters of a page say; some of them may have no text."""
    if count <= 0:
        return ""
    buffer = (ctypes.c_ushort * (count + 1))()
    written = pdfium.FPDFText_GetText(page, 0, count, buffer)
    return ctypes.string_at(buffer, 2 * max(0, written - 1)).decode("utf-16-le", "ignore")


class _Look:
    """Looks at characters of a page. Each look is a call into PDFium, and their number is what reading a page takes
    beside PDFium's own work; so there are no more than a line needs, all into one box.

    `aligned` says that the page's text has every character that PDFium counts, so that their numbers are the same.
    """

    def __init__(self, page: TextPage, aligned: bool) -> None:
        self._page = page
        self._aligned = aligned
        self._box = pdfium.FS_RECTF()
        self._into = ctypes.byref(self._box)

    def line(self, text: str, start: int) -> _Line:
        """Return the line whose first character is number `start` of the page's text."""
        page, box, into = self._page, self._box, self._into
        first, last = start, start + len(text.rstrip()) - 1
        if not self._aligned:
            first, last = _character_of_text(page, first), _character_of_text(page, last)
        _loose_box(page, first, into)
        left, top, height = box.left, box.top, box.top - box.bottom
        _loose_box(page, last, into)
        if box.right - left > _CHARACTER_WIDTH * height * len(text):
            text = self._with_cells(text, first, _CELL_GAP * height)
        bold = _weight(page, first) >= _BOLD_WEIGHT and _weight(page, last) >= _BOLD_WEIGHT
        return _Line(text, top, height, bold)

    def _with_cells(self, text: str, first: int, gap: float) -> str:
        """Return the line that begins at character `first`, with a bar at each space wider than `gap` points."""
        page, box, into = self._page, self._box, self._into
        parts, begun, space = [], 0, text.find(" ", 1)
        while 0 < space < len(text) - 1:
            _loose_box(page, first + space + 1, into)
            left = box.left
            _loose_box(page, first + space - 1, into)
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
