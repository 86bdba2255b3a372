"""The text of PDFs: the words that pypdf finds, with headings, paragraphs and table cells kept apart."""

import re
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
from pypdf import PdfReader

from tunesmith_rag.pdf import read_pages
from tunesmith_rag.sample_pdfs import KINDS, sample

HANDBOOK = Path(__file__).resolve().parents[2] / "examples" / "handbook.pdf"


def f1(one: str, other: str) -> float:
    """Return the harmonic mean of precision and recall of the words of two texts."""
    first, second = (Counter(re.findall(r"\w+", text)) for text in (one, other))
    return 2 * (first & second).total() / (first.total() + second.total())


@pytest.mark.parametrize("kind", ["handbook", *KINDS])
def test_the_words_are_those_that_pypdf_finds(tmp_path: Path, kind: str) -> None:
    file = HANDBOOK if kind == "handbook" else tmp_path / "sample.pdf"
    if kind != "handbook":
        file.write_bytes(sample(kind, 3))
    pages = list(read_pages(file, 100))
    plain = [page.extract_text() for page in PdfReader(BytesIO(file.read_bytes())).pages]
    assert len(pages) == len(plain)
    assert all(f1(page.text, text) >= 0.999 for page, text in zip(pages, plain, strict=True))


def test_headings_stand_alone_and_cells_are_told_apart() -> None:
    page = list(read_pages(HANDBOOK, 100))[3].text
    assert "\n\n2.2 Rain gauge design\n" in page
    assert "\nRain gauge | Tarn TB-200 | Enclosure, south | 0 to 300 mm/h\n" in page
    paragraph = page.partition("2.2 Rain gauge design")[2].strip().partition("\n\n")[0]
    assert " ".join(paragraph.split()).endswith("so that snow melts before it is measured.")
