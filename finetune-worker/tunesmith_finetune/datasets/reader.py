"""Dataset files as rows. CSV and JSONL are read here, in UTF-8, with or without a byte order mark.

A reader gives `Row`s one after the other, so such a file is never in memory whole. To add a file type, write a reader
and put it into `READERS`.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tunesmith_finetune.datasets.source import LONGEST_CELL, Row, Source, refuse_constant
from tunesmith_finetune.datasets.structured import read_json_file, read_parquet

DELIMITERS = ",;\t"


def read_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of a dataset. Raises `BadRequest` for a file that cannot be read as what it says it is."""
    reader = READERS.get(Path(source.filename).suffix.lower())
    if reader is None:
        known = ", ".join(sorted(READERS))
        raise source.refuse(f"its name must end in one of {known}, which say how to read it.", "unsupported_file")
    yield from reader(source)


def _lines(source: Source) -> Iterator[str]:
    """Yield decoded lines with their ends. Raises for bytes that are no UTF-8 and for lines without an end."""
    with source.path.open("rb") as file:
        number = 0
        while raw := file.readline(4 * LONGEST_CELL + 1):
            number += 1
            if len(raw) > 4 * LONGEST_CELL:
                raise source.refuse(f"line {number} is longer than {LONGEST_CELL} characters.", "row_too_long")
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise source.refuse(
                    f"line {number} is not UTF-8 (byte 0x{raw[error.start]:02x}). Save the file as UTF-8.",
                    "invalid_encoding",
                ) from error
            if "\x00" in text:
                raise source.refuse(f"line {number} holds a NUL byte; this is no text file.", "invalid_encoding")
            yield text


def _read_csv(source: Source) -> Iterator[Row]:
    lines = _lines(source)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise source.refuse("it is empty.", "no_rows")
    delimiter = max(DELIMITERS, key=first.count)
    csv.field_size_limit(LONGEST_CELL)
    records = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    header: list[str] = []
    number = 0
    try:
        for cells in records:
            number += 1
            if number == 1:
                header = _header(source, cells)
            elif cells:
                if len(cells) != len(header):
                    raise source.refuse(
                        f"row {number} has {len(cells)} cells and the header has {len(header)} columns. "
                        "A text with a comma, a quote or a line break needs quotes around it.",
                        "invalid_row",
                    )
                yield Row(number, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise source.refuse(f"row {number + 1} is no valid CSV ({error}).", "invalid_row") from error


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _header(source: Source, cells: list[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise source.refuse(f"the column '{repeated[0]}' is there twice.", "invalid_columns")
    return names


def _read_jsonl(source: Source) -> Iterator[Row]:
    for number, line in enumerate(_lines(source), start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line, parse_constant=refuse_constant)
        except (ValueError, RecursionError) as error:
            raise source.refuse(f"line {number} is no JSON ({error}).", "invalid_row") from error
        if not isinstance(cells, dict):
            raise source.refuse(f"line {number} is no JSON object ({{...}}).", "invalid_row")
        yield Row(number, {str(name).strip().lower(): value for name, value in cells.items()})


READERS: dict[str, Callable[[Source], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".json": read_json_file,
    ".jsonl": _read_jsonl,
    ".parquet": read_parquet,
}
