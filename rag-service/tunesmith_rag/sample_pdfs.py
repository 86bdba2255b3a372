"""PDFs of any length for tests and benchmarks: prose as different programs print it, and tables.

Needs fpdf2, a development dependency. The same arguments give the same pages everywhere.
"""

import random
from collections.abc import Callable

from fpdf import FPDF
from fpdf.enums import XPos, YPos

_SYLLABLES = ("ba", "kel", "dor", "mi", "ran", "tos", "ul", "ven", "shi", "par", "ne", "lo", "gra", "tis", "fen", "om")
_LINE = 4.6  # mm
_WORDS = 1500

KINDS = ("prose", "placed words", "tables")
"""Lines printed whole; every word placed by itself, as word processors and browsers do; tables."""


def sample(kind: str, pages: int, seed: int = 1) -> bytes:
    """Return a PDF of `pages` A4 pages, each with a heading and about 2,500 characters."""
    chance = random.Random(seed)  # noqa: S311 - for repeatable pages, not for secrets
    vocabulary = ["".join(chance.choices(_SYLLABLES, k=chance.choice((1, 2, 2, 3)))) for _ in range(_WORDS)]
    document = FPDF(format="A4")
    for number in range(1, pages + 1):
        document.add_page()
        document.set_font("times", "B", 14)
        document.cell(0, 9, f"{number} {_sentence(chance, vocabulary, 4)}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        document.set_font("times", size=10)
        _BODIES[kind](document, lambda words: _sentence(chance, vocabulary, words))
    return bytes(document.output())


def _sentence(chance: random.Random, vocabulary: list[str], words: int) -> str:
    return " ".join(chance.choices(vocabulary, k=words)).capitalize()


def _prose(document: FPDF, sentence: Callable[[int], str]) -> None:
    for _ in range(5):
        paragraph = " ".join(f"{sentence(12)}." for _ in range(8))
        document.multi_cell(0, _LINE, paragraph, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        document.ln(3)


def _placed_words(document: FPDF, sentence: Callable[[int], str]) -> None:
    space = document.get_string_width(" ")
    for _ in range(5):
        for word in " ".join(f"{sentence(12)}." for _ in range(8)).split():
            width = document.get_string_width(word)
            if document.get_x() + width > document.w - document.r_margin:
                document.ln(_LINE)
            document.cell(width + space, _LINE, word)
        document.ln(_LINE + 3)


def _tables(document: FPDF, sentence: Callable[[int], str]) -> None:
    with document.table() as table:
        for _ in range(28):
            row = table.row()
            for _ in range(5):
                row.cell(sentence(2))


_BODIES = {"prose": _prose, "placed words": _placed_words, "tables": _tables}
