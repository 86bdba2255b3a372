"""Datasets are read as they are meant, or refused with the rows and what to change."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tunesmith_finetune.datasets.formats import Example, read_examples
from tunesmith_finetune.datasets.problems import name_rows
from tunesmith_finetune.datasets.source import LONGEST_CELL, Source
from tunesmith_shared.errors import BadRequest

Write = Callable[..., Source]


def _contents(example: Example) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in example["messages"] or []]


def _refusal(source: Source, method: str = "supervised") -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        list(read_examples(source, method))
    assert refused.value.param == "training_file"
    return refused.value


@pytest.mark.parametrize("response", ["response", "completion", "answer"])
def test_prompt_and_response(dataset: Write, response: str) -> None:
    (example,) = read_examples(dataset(f"prompt,{response}\nHi,Aye\n"), "supervised")
    assert example["row"] == 2
    assert _contents(example) == [("user", "Hi"), ("assistant", "Aye")]


def test_byte_order_mark_quoted_newlines_and_other_scripts(dataset: Write) -> None:
    text = '\ufeffPrompt , Response,system\r\n"say ""hi""\nplease, 你好","a\n\nb 😀",be kind\r\n\r\nx,y,\r\n'
    first, second = read_examples(dataset(text), "supervised")
    assert _contents(first) == [("system", "be kind"), ("user", 'say "hi"\nplease, 你好'), ("assistant", "a\n\nb 😀")]
    assert _contents(second) == [("user", "x"), ("assistant", "y")]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(dataset: Write, delimiter: str) -> None:
    (example,) = read_examples(dataset(f"prompt{delimiter}response\na, b{delimiter}c\n"), "supervised")
    assert _contents(example) == [("user", "a, b"), ("assistant", "c")]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"instruction": "Add", "input": "1 2", "output": "3"}, [("user", "Add\n\n1 2"), ("assistant", "3")]),
        ({"instruction": "Add", "input": "", "output": "3"}, [("user", "Add"), ("assistant", "3")]),
        ({"question": "Q?", "context": "C.", "answer": "A"}, [("user", "C.\n\nQ?"), ("assistant", "A")]),
        (
            {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]},
            [("user", "u"), ("assistant", "a")],
        ),
    ],
)
def test_formats_from_json_lines(dataset: Write, cells: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    (example,) = read_examples(dataset(json.dumps(cells) + "\n", "rows.jsonl"), "supervised")
    assert _contents(example) == expected


@pytest.mark.parametrize(
    "answers",
    [
        '"A"',
        '["A", "B"]',
        '{"text": ["A", "B"], "answer_start": [5, 9]}',
        '"[\\"A\\"]"',
        '"{\\"text\\": [\\"A\\"], \\"answer_start\\": [5]}"',
    ],
)
def test_the_first_of_several_answers_is_learnt(dataset: Write, answers: str) -> None:
    line = f'{{"question": "Q?", "context": "C.", "answers": {answers}}}\n'
    (example,) = read_examples(dataset(line, "rows.jsonl"), "supervised")
    assert _contents(example) == [("user", "C.\n\nQ?"), ("assistant", "A")]


def test_a_question_without_an_answer_is_named(dataset: Write) -> None:
    lines = '{"question": "Q?", "answers": {"text": []}}\n{"question": "Q?", "answers": "[]"}\n{"question": "Q?"}\n'
    message = _refusal(dataset(lines, "rows.jsonl")).message
    assert "Rows 1, 2: 'answers' is empty" in message
    assert "Row 3: 'answers' is missing" in message


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8", "mac-roman"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_the_declared_encoding_is_used(dataset: Write, encoding: str, kind: str) -> None:
    rows = [("Café?", "“Très bien”, ça va"), ("b", "d")]
    cells = [{"prompt": prompt, "response": response} for prompt, response in rows]
    text = {
        "csv": "prompt,response\r\n" + "".join(f'{prompt},"{response}"\r\n' for prompt, response in rows),
        "jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in cells),
        "json": json.dumps(cells, ensure_ascii=False),
    }[kind]
    source = replace(dataset(text.encode(encoding), f"rows.{kind}"), encoding=encoding)
    first, _second = read_examples(source, "supervised")
    assert _contents(first) == [("user", rows[0][0]), ("assistant", rows[0][1])]


def test_a_byte_order_mark_of_utf_16_is_a_declaration(dataset: Write) -> None:
    (example,) = read_examples(dataset("prompt\tresponse\nHé\tça\n".encode("utf-16")), "supervised")
    assert _contents(example) == [("user", "Hé"), ("assistant", "ça")]


def test_what_the_declared_encoding_cannot_be_is_named_by_line(dataset: Write) -> None:
    content = "prompt,response\n" + "a,b\n" * 30_000 + "é,d\n"
    undeclared = _refusal(dataset(content.encode("cp1252")))
    assert "line 30002 is not UTF-8 (0xe9)" in undeclared.message
    assert "charset=windows-1252" in undeclared.message
    declared = _refusal(replace(dataset(content.encode("cp1252")), encoding="ascii"))
    assert "line 30002 is not ascii" in declared.message


def test_plain_text(dataset: Write) -> None:
    (example,) = read_examples(dataset('{"text": "once"}\n', "rows.jsonl"), "supervised")
    assert (example["text"], example["messages"]) == ("once", None)


def test_missing_columns_are_answered_with_those_found_and_those_that_fit(dataset: Write) -> None:
    refusal = _refusal(dataset("ask,reply\na,b\n"))
    assert refusal.code == "missing_columns"
    assert "ask, reply" in refusal.message
    assert "prompt + response|completion|answer" in refusal.message


def test_empty_cells_and_nan_are_named_by_row(dataset: Write) -> None:
    refusal = _refusal(dataset("prompt,response\na,\nb,c\n ,d\ne,NaN\n"))
    assert refusal.code == "empty_cell"
    assert "Rows 2, 5: 'response' is empty" in refusal.message
    assert "Row 4: 'prompt' is empty" in refusal.message


@pytest.mark.parametrize(
    ("content", "filename", "code"),
    [
        ("", "rows.csv", "no_rows"),
        ("prompt,response\n", "rows.csv", "no_rows"),
        ("prompt,response\na,b,c\n", "rows.csv", "invalid_row"),
        ('prompt,response\na,"b\n', "rows.csv", "invalid_row"),
        ("prompt,prompt,response\na,b,c\n", "rows.csv", "invalid_columns"),
        (b"prompt,response\n\xff\xfe,b\n", "rows.csv", "invalid_encoding"),
        (b"prompt,response\na\x00,b\n", "rows.csv", "invalid_encoding"),
        (b"prompt,response\n" + b"x" * (4 * LONGEST_CELL + 2), "rows.csv", "row_too_long"),
        ('{"text": NaN}\n', "rows.jsonl", "invalid_row"),
        ("[" * 100_000, "rows.jsonl", "invalid_row"),
        ("[1]\n", "rows.jsonl", "invalid_row"),
        ('{"text": "a"}\n{"prompt": "b"}\n', "rows.jsonl", "missing_columns"),
        ('{"text": 5}\n', "rows.jsonl", "invalid_row"),
        ('{"messages": [{"role": "user", "content": "u"}]}\n', "rows.jsonl", "invalid_row"),
        ('{"messages": [{"role": "robot", "content": "u"}]}\n', "rows.jsonl", "invalid_row"),
        ("a,b\n", "rows.xlsx", "unsupported_file"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(dataset: Write, content: bytes | str, filename: str, code: str) -> None:
    assert _refusal(dataset(content, filename)).code == code


def test_many_rows_are_named_shortly() -> None:
    assert name_rows([4]) == "Row 4"
    assert name_rows(range(1, 14)) == "Rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more"
