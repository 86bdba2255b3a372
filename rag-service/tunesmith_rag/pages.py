"""What reading a document gives: pages, or the reason why it cannot be read. Shared by all formats."""

import re
from dataclasses import dataclass
from typing import Literal

ErrorCode = Literal["server_error", "unsupported_file", "invalid_file"]
"""OpenAI's `last_error.code` of a file in a vector store."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class DocumentRefused(Exception):
    """This document cannot be read. `str()` is a sentence for its owner that says what to do."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code: ErrorCode = code


@dataclass(frozen=True)
class Page:
    """One page: its number (from 1), how many there are, its text, and whether its content could be read at all.

    `recognised` says that the text was read from a picture of the page and may have mistakes.
    """

    number: int
    total: int
    text: str
    readable: bool = True
    recognised: bool = False


def storable(text: str) -> str:
    """Drop what no database stores: lone surrogates and control characters other than tab and line breaks."""
    return _CONTROL.sub("", text.encode("utf-8", "ignore").decode("utf-8")).strip()
