"""Split pages into chunks that the embedding model takes whole.

langchain's recursive splitter does the work (paragraphs, then lines, sentences, words, characters), counting in the
model's own tokens. A chunk never crosses a page, so that it has one page number to be cited with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_text_splitters import RecursiveCharacterTextSplitter

from tunesmith_rag.tokens import TokenCounter

# Regular expressions, from the strongest break to the weakest; the last splits anywhere.
_SEPARATORS = [r"\n\s*\n", r"\n", r"(?<=[.!?;:。！？])\s", r"\s", ""]

_AUTO_TOKENS, _AUTO_OVERLAP_PART = 150, 6


@dataclass(frozen=True)
class Chunking:
    """Sizes in tokens of the embedding model, without its start and end tokens."""

    max_tokens: int
    overlap_tokens: int


def page_splitter(chunking: Chunking, count: TokenCounter) -> Callable[[str], list[str]]:
    """Return the function that splits the text of one page into chunks of at most `chunking.max_tokens`."""
    splitter = RecursiveCharacterTextSplitter(
        separators=_SEPARATORS,
        is_separator_regex=True,
        keep_separator="end",
        chunk_size=chunking.max_tokens,
        chunk_overlap=chunking.overlap_tokens,
        length_function=count,
    )

    def split(text: str) -> list[str]:
        chunks = splitter.split_text(text)
        return [part for chunk in chunks for part in _within(chunk, chunking.max_tokens, count)]

    return split


def _within(chunk: str, max_tokens: int, count: TokenCounter) -> list[str]:
    """Halve `chunk` until every part fits: pieces that the splitter joined can make more tokens than it added up."""
    if count(chunk) <= max_tokens or len(chunk) == 1:
        return [chunk]
    middle = len(chunk) // 2
    space = chunk.rfind(" ", 1, middle)
    cut = space if space > 0 else middle
    return [part for half in (chunk[:cut], chunk[cut:].lstrip()) if half for part in _within(half, max_tokens, count)]


def effective_chunking(strategy: Mapping[str, Any], longest: int) -> Chunking:
    """Return the sizes to split with: those asked for, or suitable ones, within the model's `longest` text."""
    if strategy.get("type") == "static":
        sizes = strategy["static"]
        size = min(int(sizes["max_chunk_size_tokens"]), longest)
        return Chunking(size, min(int(sizes["chunk_overlap_tokens"]), size // 2))
    size = min(_AUTO_TOKENS, longest)
    return Chunking(size, size // _AUTO_OVERLAP_PART)


def strategy_of(chunking: Chunking) -> dict[str, Any]:
    """Return the sizes that were used in OpenAI's form."""
    sizes = {"max_chunk_size_tokens": chunking.max_tokens, "chunk_overlap_tokens": chunking.overlap_tokens}
    return {"type": "static", "static": sizes}
