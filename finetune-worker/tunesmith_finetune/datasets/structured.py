"""Dataset files that are read as a whole, or in blocks: JSON and Parquet. Rows are numbered from 1."""

import json
from collections.abc import Iterator
from typing import Any

from tunesmith_finetune.datasets.source import LONGEST_CELL, Row, Source, refuse_constant

LARGEST_JSON = 256 * 2**20
"""Bytes; a JSON file is in memory whole while it is read, several times as large."""

LARGEST_ROW_GROUP = 2 * 2**30
"""Bytes that a Parquet file may unpack to at once."""

ROWS_AT_ONCE = 256


def read_json_file(source: Source) -> Iterator[Row]:
    """Yield the objects of a JSON file: a list of them, or an object with one such list (`{"data": [...]}`)."""
    if source.path.stat().st_size > LARGEST_JSON:
        raise source.refuse("it is larger than 256 MiB. Save it as JSONL, an object a line.", "row_too_long")
    try:
        content = json.loads(source.path.read_bytes().decode(source.codec), parse_constant=refuse_constant)
    except UnicodeDecodeError as error:
        raise source.undecodable(f"byte {error.start}", error) from error
    except (ValueError, RecursionError) as error:
        message = f"it is no JSON ({error}). If it has an object a line, name it .jsonl."
        raise source.refuse(message, "invalid_row") from error
    rows = _only_list(content)
    if rows is None:
        raise source.refuse("a JSON file must be a list of objects, [{...}, {...}].", "invalid_row")
    for number, cells in enumerate(rows, start=1):
        yield source.row(number, cells)


def _only_list(content: object) -> list[Any] | None:
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        return lists[0] if len(lists) == 1 else None
    return content if isinstance(content, list) else None


def read_parquet(source: Source) -> Iterator[Row]:
    """Yield the rows of a Parquet file, block after block."""
    import pyarrow  # type: ignore[import-untyped]  # noqa: PLC0415 - a worker that sees no such file does not carry it
    from pyarrow import parquet  # noqa: PLC0415

    number = 0
    try:
        with parquet.ParquetFile(source.path) as file:
            for index in range(file.metadata.num_row_groups):
                if file.metadata.row_group(index).total_byte_size > LARGEST_ROW_GROUP:
                    message = f"a row group unpacks to more than {LARGEST_ROW_GROUP >> 30} GiB; write smaller ones."
                    raise source.refuse(message, "row_too_long")
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                for cells in batch.to_pylist():
                    number += 1
                    yield source.row(number, cells)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:LONGEST_CELL] if str(error) else type(error).__name__
        raise source.refuse(f"it is no Parquet file that can be read ({reason}).", "invalid_row") from error
