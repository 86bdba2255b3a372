"""Dataset files as rows. CSV and JSONL are read here, in the encoding that the upload declared.

A reader gives `Row`s one after the other, so such a file is never in memory whole. To add a file type, write a reader
and put it into `READERS`.
"""

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tunesmith_finetune.datasets.source import LONGEST_CELL, Row, Source, refuse_constant
from tunesmith_finetune.datasets.structured import read_json_file, read_parquet

DELIMITERS = ",;\t"
BLOCK = 2**16
"""Bytes that are decoded at once."""


def read_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of a dataset. Raises `BadRequest` for a file that cannot be read as what it says it is."""
    reader = READERS.get(Path(source.filename).suffix.lower())
    if reader is None:
        known = ", ".join(sorted(READERS))
        raise source.refuse(f"its name must end in one of {known}, which say how to read it.", "unsupported_file")
    yield from reader(source)


def _lines(source: Source) -> Iterator[str]:
    """Yield decoded lines with their ends. Raises for what is no text in the file's encoding and for endless lines."""
    for number, line in enumerate(_split(source), start=1):
        if "\x00" in line:
            raise source.refuse(f"line {number} holds a NUL byte; this is no text file.", "invalid_encoding")
        yield line


def _split(source: Source) -> Iterator[str]:
    decode = codecs.getincrementaldecoder(source.codec)().decode
    rest, count = "", 0
    with source.path.open("rb") as file:
        while True:
            block = file.read(BLOCK)
            try:
                text = decode(block, final=not block)
            except UnicodeDecodeError as error:
                place = count + 1 + _line_ends_before(error, source.codec)
                raise source.undecodable(f"line {place}", error) from error
            *lines, rest = (rest + text).split("\n")
            count += len(lines)
            if len(rest) > LONGEST_CELL or any(len(line) > LONGEST_CELL for line in lines):
                raise source.refuse(f"line {count + 1} is longer than {LONGEST_CELL} characters.", "row_too_long")
            for line in lines:
                yield f"{line}\n"
            if not block:
                break
    if rest:
        yield rest


def _line_ends_before(error: UnicodeDecodeError, codec: str) -> int:
    """Return how many lines end in the bytes before those that could not be decoded."""
    good = bytes(error.object[: error.start])
    return good.decode(codec, errors="ignore").count("\n")


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
