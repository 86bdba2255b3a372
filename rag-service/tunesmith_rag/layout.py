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
    lines, start, handle = [], 0, page.raw
    for text in page.get_text_range().split("\r\n"):
        if text.strip():
            lines.append(_line(handle, text, start))
        start += len(text) + 2
    if not lines:
        return ""
    large = _HEADING_HEIGHT * _usual_height(lines)
    far = _PARAGRAPH_GAP * _usual_distance(lines)
    parts = [lines[0].text]
    for before, line in pairwise(lines):
        # Upwards: the next column, or a foot that was drawn before the text.
        apart = before.top - line.top > far or line.top > before.top + line.height
        parts.append("\n\n" if apart or _is_heading(before, large) != _is_heading(line, large) else "\n")
        parts.append(line.text)
    return "".join(parts)


def _line(page: _Handle, text: str, start: int) -> _Line:
    """Return the line whose first character is number `start` of the page's text."""
    first = pdfium.FPDFText_GetCharIndexFromTextIndex(page, start)
    last = pdfium.FPDFText_GetCharIndexFromTextIndex(page, start + len(text.rstrip()) - 1)
    box, end = _box(page, first), _box(page, last)
    height = box.top - box.bottom
    bold = min(pdfium.FPDFText_GetFontWeight(page, first), pdfium.FPDFText_GetFontWeight(page, last)) >= _BOLD_WEIGHT
    if end.right - box.left > _CHARACTER_WIDTH * height * len(text):
        text = _with_cells(page, text, first, _CELL_GAP * height)
    return _Line(text, box.top, height, bold)


def _with_cells(page: _Handle, text: str, first: int, gap: float) -> str:
    """Return the line that begins at character `first`, with a bar at each space that is wider than `gap` points."""
    parts = []
    for number, character in enumerate(text):
        wide = (
            character == " "
            and 0 < number < len(text) - 1
            and _box(page, first + number + 1).left - _box(page, first + number - 1).right > gap
        )
        parts.append(" | " if wide else character)
    return "".join(parts)


def _box(page: _Handle, index: int) -> pdfium.FS_RECTF:
    box = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(page, index, ctypes.byref(box))
    return box


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
