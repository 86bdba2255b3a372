"""A dataset file and its rows, as every reader gives them."""

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tunesmith_shared.errors import BadRequest

LONGEST_CELL = 2**20
"""Characters in one cell or line; more is a broken quote or not a dataset."""


@dataclass(frozen=True)
class Row:
    """A row by its number (in a spreadsheet the header is row 1; in JSONL the number is the line's)."""

    number: int
    cells: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A dataset file: where its bytes are, the name it was uploaded under, and the request field that named it.

    `encoding` is the one that the upload declared; without one, text is UTF-8, or UTF-16 where its mark says so.
    """

    path: Path
    filename: str
    param: str
    encoding: str | None = None

    @property
    def codec(self) -> str:
        """The name of the codec that reads this file; a byte order mark is no part of the text."""
        if self.encoding is None:
            with self.path.open("rb") as file:
                marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            return "utf-16" if marked else "utf-8-sig"
        return "utf-8-sig" if self.encoding == "utf-8" else self.encoding

    def undecodable(self, place: str, error: UnicodeDecodeError) -> BadRequest:
        """Return the error for bytes that are no text in the file's encoding."""
        byte = f"0x{error.object[error.start]:02x}"
        if self.encoding is None:
            how = "Save it as UTF-8, or upload it with its encoding, such as text/csv; charset=windows-1252."
            return self.refuse(f"{place} is not UTF-8 ({byte}). {how}", "invalid_encoding")
        how = f"The upload said that it is {self.encoding}; upload it with its real encoding."
        return self.refuse(f"{place} is not {self.encoding} ({byte}). {how}", "invalid_encoding")

    def refuse(self, message: str, code: str) -> BadRequest:
        """Return the error that says why this file cannot be used."""
        return BadRequest(f"'{self.filename}' cannot be trained on: {message}", param=self.param, code=code)

    def row(self, number: int, cells: object) -> Row:
        """Return what a JSON or Parquet file holds as one row. Raises `BadRequest` for what is no object."""
        if not isinstance(cells, dict):
            raise self.refuse(f"row {number} is no JSON object ({{...}}).", "invalid_row")
        for value in cells.values():
            if isinstance(value, str) and len(value) > LONGEST_CELL:
                raise self.refuse(f"row {number} has a text of more than {LONGEST_CELL} characters.", "row_too_long")
        return Row(number, {str(name).strip().lower(): value for name, value in cells.items()})


def refuse_constant(name: str) -> NoReturn:
    """Refuse the numbers that are no JSON (NaN, Infinity); for `json.loads(parse_constant=)`."""
    raise ValueError(f"{name} is no value that a model can learn from")
