"""Render the example handbook, or another document of its form, from Markdown to PDF.

    python examples/render.py                      # writes examples/handbook.pdf
    python examples/render.py --source benchmarks/documents/corpus/ferry_policy.md --output /tmp/x.pdf

The Markdown is a small subset: a comment with the two halves of the running head, one `#` title with three paragraphs
below it (the title page), `##` chapters, each starting on a new page, `###` sections, paragraphs of one line each, and
pipe tables. The chapter called "Contents" gets the list of chapters ahead of its own text. The same input gives the
same bytes on every machine: the date is fixed, the fonts are the PDF standard ones, and streams are not compressed,
as zlib's output differs between builds.
"""

import argparse
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Literal

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace

FOLDER = Path(__file__).parent
EDITION_DATE = datetime(2024, 3, 1, tzinfo=UTC)
RUNNING_HEAD = re.compile(r"<!-- running head: (.+) \| (.+) -->\n")

NAVY = (23, 55, 94)
RUST = (178, 74, 42)
GREY = (110, 116, 124)
PALE = (236, 241, 246)
RULE = (196, 205, 215)
BLACK = (25, 25, 25)

MARGIN = 24.0  # mm, left and right
BODY_SIZE = 11.5  # points
BODY_LEADING = 5.4  # mm from line to line

BlockKind = Literal["section", "paragraph", "table"]


@dataclass(frozen=True)
class Block:
    """One piece of a chapter: a section heading or paragraph (`text`), or a table (`rows`, the first one its head)."""

    kind: BlockKind
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass
class Chapter:
    """A chapter's title and its blocks in reading order."""

    title: str
    blocks: list[Block] = field(default_factory=list)


def parse_row(line: str) -> tuple[str, ...]:
    """Split `| a | b |` into its cells."""
    return tuple(cell.strip() for cell in line.strip("|").split("|"))


def parse_blocks(lines: list[str]) -> list[Block]:
    """Turn the lines of one chapter into blocks; neighbouring lines that start with a pipe make one table."""
    blocks: list[Block] = []
    for is_table, group in groupby(lines, key=lambda line: line.startswith("|")):
        if is_table:
            rows = [parse_row(line) for line in group]
            blocks.append(Block("table", rows=(rows[0], *rows[2:])))  # rows[1] is the `---` rule
            continue
        for line in group:
            if line.startswith("### "):
                blocks.append(Block("section", text=line.removeprefix("### ")))
            elif line:
                blocks.append(Block("paragraph", text=line))
    return blocks


def parse_handbook(markdown: str) -> tuple[Chapter, list[Chapter]]:
    """Read the Markdown into its title page (as a chapter) and its chapters."""
    title_part, *chapter_parts = markdown.split("\n## ")
    title, *title_lines = title_part.removeprefix("# ").splitlines()
    chapters = []
    for part in chapter_parts:
        heading, *lines = part.splitlines()
        chapters.append(Chapter(heading, parse_blocks(lines)))
    return Chapter(title, parse_blocks(title_lines)), chapters


class HandbookPdf(FPDF):
    """An A4 page with a running head and a numbered foot on all pages but the first."""

    def __init__(self, running_head: tuple[str, str]) -> None:
        """Set margins, fixed metadata and uncompressed streams."""
        super().__init__(format="A4")
        self.running_head = running_head
        self.set_compression(False)
        self.set_creation_date(EDITION_DATE)
        self.set_producer("Tunesmith examples")
        self.set_margins(MARGIN, 26, MARGIN)
        self.set_auto_page_break(True, margin=20)

    def header(self) -> None:
        """Draw the running head; the title page has none."""
        if self.page_no() == 1:
            return
        self.set_font("Helvetica", size=8)
        self.set_text_color(*GREY)
        self.set_y(13)
        self.cell(self.epw / 2, 5, self.running_head[0])
        self.cell(self.epw / 2, 5, self.running_head[1], align="R")
        self.set_draw_color(*NAVY)
        self.set_line_width(0.3)
        self.line(MARGIN, 19, self.w - MARGIN, 19)
        self.set_y(self.t_margin)

    def footer(self) -> None:
        """Draw the page number, which is the page's place in the file; the title page has none."""
        if self.page_no() == 1:
            return
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.set_text_color(*GREY)
        self.cell(0, 5, f"Page {self.page_no()}", align="C")

    def write_lines(self, text: str, leading: float, align: Literal["L", "C"] = "L") -> None:
        """Write wrapped text at the left margin and move below it. `leading` is in mm."""
        self.multi_cell(0, leading, text, align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def draw_compass(pdf: HandbookPdf, x: float, y: float, radius: float) -> None:
    """Draw an eight-pointed compass rose around (x, y), in mm."""
    pdf.set_line_width(0.4)
    pdf.set_draw_color(*NAVY)
    pdf.circle(x, y, radius * 0.82)
    pdf.circle(x, y, radius * 0.78)
    for step in (1, 3, 5, 7, 0, 2, 4, 6):  # the four long points lie on top of the four short ones
        length = radius if step % 2 == 0 else radius * 0.66
        angle = math.radians(45 * step - 90)
        tip = (x + length * math.cos(angle), y + length * math.sin(angle))
        for side, colour in ((-1, NAVY), (1, PALE)):
            flank = angle + side * math.radians(22.5)
            corner = (x + radius * 0.2 * math.cos(flank), y + radius * 0.2 * math.sin(flank))
            pdf.set_fill_color(*(RUST if step == 0 and side == -1 else colour))
            pdf.polygon([(x, y), tip, corner], style="DF")


def draw_title_page(pdf: HandbookPdf, title: Chapter) -> None:
    """Draw the title page: the rose, the title, the publisher and the edition, and a note at the foot."""
    publisher, edition, note = (block.text for block in title.blocks)
    pdf.add_page()
    pdf.set_fill_color(*NAVY)
    pdf.rect(0, 0, pdf.w, 14, style="F")
    draw_compass(pdf, pdf.w / 2, 82, 36)
    pdf.set_y(138)
    pdf.set_font("Helvetica", "B", 27)
    pdf.set_text_color(*NAVY)
    pdf.set_x(MARGIN + 8)  # narrower than the page, so that the title breaks into two even lines
    pdf.multi_cell(pdf.epw - 16, 12, title.title, align="C", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(9)
    pdf.set_font("Helvetica", size=14)
    pdf.set_text_color(*BLACK)
    pdf.write_lines(publisher, 8, "C")
    pdf.set_text_color(*RUST)
    pdf.write_lines(edition, 8, "C")
    pdf.set_y(262)
    pdf.set_font("Times", "I", 10)
    pdf.set_text_color(*GREY)
    pdf.write_lines(note, 5, "C")


def draw_contents(pdf: HandbookPdf, chapters: list[Chapter]) -> None:
    """List the chapters with their page numbers and links; chapter n starts on page n + 2 as each fills one page."""
    pdf.set_font("Helvetica", size=11)
    pdf.set_text_color(*BLACK)
    pdf.set_draw_color(*RULE)
    for page, chapter in enumerate(chapters, start=3):
        link = pdf.add_link(page=page)
        pdf.cell(pdf.epw - 10, 9, chapter.title, border="B", link=link)
        pdf.cell(10, 9, str(page), border="B", align="R", link=link, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.ln(6)


def draw_table(pdf: HandbookPdf, rows: tuple[tuple[str, ...], ...]) -> None:
    """Draw a table over the full width, columns as wide as their longest cells need."""
    pdf.set_font("Helvetica", size=9.5)
    pdf.set_text_color(*BLACK)
    pdf.set_draw_color(*RULE)
    pdf.set_line_width(0.2)
    pdf.ln(1)
    widths = [max(pdf.get_string_width(cell) for cell in column) + 6 for column in zip(*rows, strict=True)]
    head = FontFace(emphasis="BOLD", color=(255, 255, 255), fill_color=NAVY)
    with pdf.table(
        rows,
        col_widths=widths,
        text_align="LEFT",
        line_height=5.9,
        headings_style=head,
        borders_layout="HORIZONTAL_LINES",
        cell_fill_color=PALE,
        cell_fill_mode="ALL",
    ):
        pass
    pdf.ln(2)


def draw_block(pdf: HandbookPdf, block: Block) -> None:
    """Draw a section heading, a paragraph or a table below what the page already holds."""
    if block.kind == "table":
        draw_table(pdf, block.rows)
    elif block.kind == "section":
        pdf.ln(1.6)
        pdf.set_font("Helvetica", "B", 11)
        pdf.set_text_color(*RUST)
        pdf.write_lines(block.text, 6)
    else:
        pdf.set_font("Times", size=BODY_SIZE)
        pdf.set_text_color(*BLACK)
        pdf.write_lines(block.text, BODY_LEADING)
        pdf.ln(1.2)


def render(markdown: str) -> bytes:
    """Render a document.

    Raises ValueError when it names no running head, and when a chapter does not fit on its page, as the contents page
    and the questions' page numbers count on one page a chapter.
    """
    head = RUNNING_HEAD.match(markdown)
    if head is None:
        raise ValueError("The first line must be `<!-- running head: left | right -->`.")
    title, chapters = parse_handbook(markdown[head.end() :])
    pdf = HandbookPdf((head[1], head[2]))
    pdf.set_title(title.title)
    draw_title_page(pdf, title)
    for page, chapter in enumerate(chapters, start=2):
        pdf.add_page()
        pdf.start_section(chapter.title)
        pdf.set_font("Helvetica", "B", 18)
        pdf.set_text_color(*NAVY)
        pdf.write_lines(chapter.title, 9)
        if chapter.title == "Contents":
            draw_contents(pdf, chapters[1:])
        for block in chapter.blocks:
            draw_block(pdf, block)
        if pdf.page_no() != page:
            raise ValueError(f"Chapter {chapter.title!r} does not fit on page {page}: shorten it.")
    return bytes(pdf.output())


def main() -> None:
    """Read the command line and write the PDF."""
    parser = argparse.ArgumentParser(description="Render a document of the examples to PDF.")
    parser.add_argument("--source", type=Path, default=FOLDER / "handbook.md")
    parser.add_argument("--output", type=Path, default=FOLDER / "handbook.pdf")
    arguments = parser.parse_args()
    arguments.output.write_bytes(render(arguments.source.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
