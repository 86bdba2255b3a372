"""A dataset file and its rows, as every reader gives them."""

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
    """A dataset file: where its bytes are, the name it was uploaded under, and the request field that named it."""

    path: Path
    filename: str
    param: str

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
