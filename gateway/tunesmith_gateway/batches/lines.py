"""The lines of a batch's input file: reading them, and finding every mistake before anything runs."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from tunesmith_gateway.batches.schemas import BatchError

Json = dict[str, Any]

MOST_LINES = 50_000
MOST_ERRORS = 100
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Line:
    """One request. `number` counts the file's lines from 1."""

    number: int
    custom_id: str
    body: Json


@dataclass
class Checked:
    """What checking a file found: how many requests, what is wrong, and on which line each model is first named."""

    total: int = 0
    errors: list[BatchError] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=dict)


def check(path: Path, endpoint: str, longest: int) -> Checked:
    """Check the whole file; lines may have up to `longest` bytes. At most `MOST_ERRORS` mistakes are told."""
    checked, seen = Checked(), dict[str, int]()
    with path.open("rb") as file:
        for number, content in _numbered(file, longest):
            checked.total += 1
            if checked.total > MOST_LINES:
                checked.errors.append(_error("too_many_lines", f"A batch takes up to {MOST_LINES:,} requests.", number))
                break
            if mistake := _check_line(content, number, endpoint, longest, checked, seen):
                checked.errors.append(mistake)
                if len(checked.errors) == MOST_ERRORS:
                    break
    if not checked.total:
        checked.errors.append(BatchError(code="empty_file", message="The file holds no requests: write one on a line."))
    return checked


def read(path: Path, longest: int, finished: set[int]) -> Generator[Line]:
    """Yield the requests of a checked file, without the lines that are `finished`."""
    with path.open("rb") as file:
        for number, content in _numbered(file, longest):
            if number not in finished:
                request = orjson.loads(content)
                yield Line(number, request["custom_id"], request["body"])


def _numbered(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that hold something. Of one that is too long only the beginning is held in memory."""
    number = 0
    while content := file.readline(longest + 2):
        number += 1
        rest = content
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(1 << 20)
        if number == 1:
            content = content.removeprefix(_BYTE_ORDER_MARK)
        if kept := content.strip():
            yield number, kept


def _check_line(
    content: bytes, number: int, endpoint: str, longest: int, checked: Checked, seen: dict[str, int]
) -> BatchError | None:
    if len(content) > longest:
        return _error("line_too_long", f"The line is longer than {longest // 2**20} MiB.", number)
    try:
        request = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        return _error("invalid_json_line", f"The line is not JSON: {error}.", number)
    if not isinstance(request, dict):
        return _error("invalid_json_line", "The line must be a JSON object.", number)
    return _check_request(request, number, endpoint, seen) or _check_body(request["body"], number, checked)


def _check_request(request: Json, number: int, endpoint: str, seen: dict[str, int]) -> BatchError | None:
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        message = "custom_id is missing: a text that names this request in the results."
        return _error("missing_required_parameter", message, number, "custom_id")
    if custom_id in seen:
        message = f"custom_id '{custom_id}' is on line {seen[custom_id]} already: each must be its own."
        return _error("duplicate_custom_id", message, number, "custom_id")
    seen[custom_id] = number
    if request.get("method") != "POST":
        return _error("invalid_method", "method must be POST.", number, "method")
    if request.get("url") != endpoint:
        return _error("invalid_url", f"url must be the batch's endpoint, {endpoint}.", number, "url")
    if not isinstance(request.get("body"), dict):
        return _error("missing_required_parameter", "body is missing: the request as a JSON object.", number, "body")
    return None


def _check_body(body: Json, number: int, checked: Checked) -> BatchError | None:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        return _error("missing_required_parameter", "Name the model to use.", number, "body.model")
    if body.get("stream"):
        return _error("invalid_request", "A batch's answers do not stream: leave stream out.", number, "body.stream")
    checked.models.setdefault(model, number)
    return None


def _error(code: str, message: str, line: int, param: str | None = None) -> BatchError:
    return BatchError(code=code, message=message, param=param, line=line)
