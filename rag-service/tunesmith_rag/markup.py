"""Text out of HTML, Markdown and Word documents, in sections, with paragraphs, headings and table cells kept apart.

markdown-it and mammoth turn Markdown and Word into HTML; Lexbor (selectolax) reads all HTML, however broken.
"""

import re
import zipfile
from pathlib import Path
from xml.parsers.expat import ExpatError

import mammoth
from markdown_it import MarkdownIt
from selectolax.lexbor import LexborHTMLParser, LexborNode

from tunesmith_rag.pages import DocumentRefused

_UNSEEN = {"script", "style", "noscript", "template", "head", "svg", "iframe", "object", "nav"}
_NEW_SECTION = {"h1", "h2"}
_PARAGRAPHS = {
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "div", "section", "article", "main", "header", "footer", "aside"),
    *("ul", "ol", "dl", "table", "blockquote", "pre", "figure", "form", "hr"),
}
_LINES = {"li", "dt", "dd", "tr", "br", "caption", "figcaption"}
_CELLS = {"td", "th"}


def damaged(kind: str) -> DocumentRefused:
    """Return the refusal of a document that its own program would not open either."""
    return DocumentRefused(
        "invalid_file", f"The {kind} is damaged and could not be read. Open it, save it anew, and upload that."
    )


def sections_of_word(path: Path) -> list[str]:
    """Return the sections of the DOCX file at `path`; pictures are left out."""
    try:
        with path.open("rb") as file:
            html = mammoth.convert_to_html(file, convert_image=lambda _: []).value
    except (zipfile.BadZipFile, ExpatError, KeyError, ValueError, AttributeError, OSError) as error:
        raise damaged("Word document") from error
    return sections_of_html(html)


def sections_of_markdown(text: str) -> list[str]:
    """Return the sections of a Markdown document (CommonMark with tables)."""
    return sections_of_html(MarkdownIt("commonmark").enable("table").render(text))


def sections_of_html(text: str) -> list[str]:
    """Return what a browser would show of an HTML document, cut before each `h1` and `h2`."""
    body = LexborHTMLParser(text).body
    writer = _Writer()
    if body is None:
        return []
    node = body.child
    while node is not None:
        below = node.child if _enter(node, writer) else None
        while below is None and node is not None:
            below = node.next
            if below is None:
                node = node.parent
                if node is None or node.mem_id == body.mem_id:
                    break
                writer.leave(node.tag or "")
        node = below
    return writer.sections()


def _enter(node: LexborNode, writer: "_Writer") -> bool:
    """Write what a node begins with; say whether what is in it is shown."""
    if node.is_text_node:
        writer.text(node.text_content or "", keep=_is_in_pre(node))
        return False
    if node.tag in _UNSEEN or not node.is_element_node:
        return False
    writer.enter(node.tag or "")
    return True


def _is_in_pre(node: LexborNode) -> bool:
    parent = node.parent
    return parent is not None and (parent.tag == "pre" or (parent.parent is not None and parent.parent.tag == "pre"))


class _Writer:
    """Puts the pieces of a document together: white space as a browser shows it."""

    def __init__(self) -> None:
        self._sections: list[list[str]] = [[]]
        self._first_cell = True

    def enter(self, tag: str) -> None:
        """Begin an element."""
        if tag in _NEW_SECTION and any(part.strip() for part in self._sections[-1]):
            self._sections.append([])
        if tag == "tr":
            self._first_cell = True
        if tag in _CELLS:
            self._add("" if self._first_cell else " | ")
            self._first_cell = False
        else:
            self.leave(tag)

    def leave(self, tag: str) -> None:
        """End an element."""
        if tag in _PARAGRAPHS:
            self._add("\n\n")
        elif tag in _LINES:
            self._add("\n")

    def text(self, text: str, keep: bool) -> None:
        """Add text; its white space counts as one space unless `keep`."""
        self._add(text if keep else re.sub(r"[ \t\r\n]+", " ", text))

    def sections(self) -> list[str]:
        """Return the texts of the sections, without empty ones."""
        return [text for text in map(_tidy, self._sections) if text]

    def _add(self, part: str) -> None:
        self._sections[-1].append(part)


def _tidy(parts: list[str]) -> str:
    # White space first, in one pass: what follows must not meet long runs of it, which it would search again and again.
    text = re.sub(r"\s+", _shorter, "".join(parts)).strip()
    return re.sub(r"\s*\| \s*", " | ", text)  # white space and paragraphs in a cell


def _shorter(space: re.Match[str]) -> str:
    """Return a run of white space with one blank line at the most; the indentation of a line stays."""
    lines = space[0].split("\n")
    indentation = lines[-1] if len(lines[-1]) > 1 else ""
    return space[0] if len(lines) == 1 else "\n" * min(2, len(lines) - 1) + indentation
