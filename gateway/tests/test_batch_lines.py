"""What is told of a batch's input before anything runs, and what is read of it afterwards."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tunesmith_gateway.batches import lines
from tunesmith_gateway.batches.lines import check, read

CHAT = "/v1/chat/completions"
LONGEST = 2**20


def request(custom_id: object, **changes: Any) -> bytes:
    line = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m", "messages": []}}
    return orjson.dumps({name: value for name, value in {**line, **changes}.items() if value is not None})


def written(folder: Path, *content: bytes) -> Path:
    file = folder / "input.jsonl"
    file.write_bytes(b"\n".join(content))
    return file


def test_a_good_file_is_counted_with_its_models_and_read_from_where_it_was_left(tmp_path: Path) -> None:
    other = {"model": "n"}
    file = written(tmp_path, b"\xef\xbb\xbf" + request("a"), b"", request("b", body=other), b"\r", request("c"), b"")
    checked = check(file, CHAT, LONGEST)
    assert (checked.total, checked.errors, checked.models) == (3, [], {"m": 1, "n": 3})
    left = list(read(file, LONGEST, {1}))
    assert [(line.number, line.custom_id) for line in left] == [(3, "b"), (5, "c")]
    assert left[0].body == other


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        (b"{not json", "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (request(""), "missing_required_parameter", "custom_id"),
        (request(7), "missing_required_parameter", "custom_id"),
        (request("first"), "duplicate_custom_id", "custom_id"),
        (request("x", method="GET"), "invalid_method", "method"),
        (request("x", url="/v1/embeddings"), "invalid_url", "url"),
        (request("x", body=None), "missing_required_parameter", "body"),
        (request("x", body={"messages": []}), "missing_required_parameter", "body.model"),
        (request("x", body={"model": "m", "stream": True}), "invalid_request", "body.stream"),
        (request("x", body={"model": "m", "prompt": "x" * LONGEST}), "line_too_long", None),
    ],
)
def test_every_mistake_is_told_with_its_line(tmp_path: Path, bad: bytes, code: str, param: str | None) -> None:
    file = written(tmp_path, request("first"), bad, request("third"), b"oops")
    errors = check(file, CHAT, LONGEST).errors
    assert [(error.line, error.code, error.param) for error in errors] == [
        (2, code, param),
        (4, "invalid_json_line", None),
    ]


def test_an_empty_file_and_one_of_too_many_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [error.code for error in check(written(tmp_path, b"", b" "), CHAT, LONGEST).errors] == ["empty_file"]
    monkeypatch.setattr(lines, "MOST_LINES", 2)
    errors = check(written(tmp_path, *(request(str(i)) for i in range(9))), CHAT, LONGEST).errors
    assert [(error.line, error.code) for error in errors] == [(3, "too_many_lines")]


def test_a_file_of_nothing_but_mistakes_tells_the_first_hundred(tmp_path: Path) -> None:
    assert len(check(written(tmp_path, *[b"x"] * 500), CHAT, LONGEST).errors) == 100
