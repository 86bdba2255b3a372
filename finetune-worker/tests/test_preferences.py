"""Preference pairs in the shapes that public data sets and OpenAI's files have, and their refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from tunesmith_finetune.datasets.formats import Example, read_examples
from tunesmith_finetune.datasets.source import Source
from tunesmith_shared.errors import BadRequest

Write = Callable[..., Source]

HARMLESS = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: What is fog?\n\nAssistant:"
OPENAI = {
    "input": {"messages": [{"role": "user", "content": "What is fog?"}], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": "A low cloud."}],
    "non_preferred_output": [{"role": "assistant", "content": "Dunno."}],
}
USER = {"role": "user", "content": "What is fog?"}


def _seen(example: Example) -> tuple[list[tuple[str, str]], str | None, str | None]:
    chat = [(message["role"], message["content"]) for message in example["messages"] or []]
    return chat, example["chosen"], example["rejected"]


def _refusal(source: Source, method: str = "dpo") -> BadRequest:
    with pytest.raises(BadRequest) as refused:
        list(read_examples(source, method))
    return refused.value


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "What is fog?", "chosen": "A low cloud.", "rejected": "Dunno."},
        {"prompt": [USER], "chosen": "A low cloud.", "rejected": "Dunno."},
        {
            "prompt": "What is fog?",
            "chosen": [USER, {"role": "assistant", "content": "A low cloud."}],
            "rejected": [USER, {"role": "assistant", "content": "Dunno."}],
            "messages": [USER],
        },
        {
            "chosen": [USER, {"role": "assistant", "content": "A low cloud."}],
            "rejected": [USER, {"role": "assistant", "content": "Dunno."}],
        },
        {
            "chosen": "\n\nHuman: What is fog?\n\nAssistant: A low cloud.",
            "rejected": "\n\nHuman: What is fog?\n\nAssistant: Dunno.",
        },
        OPENAI,
    ],
)
@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_every_shape_of_a_pair_becomes_the_same(tmp_path: Path, row: dict[str, Any], kind: str) -> None:
    path = tmp_path / "upload"
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps([row] if kind == "json" else row))
    (example,) = read_examples(Source(path, f"rows.{kind}", "training_file"), "dpo")
    assert example["row"] == 1
    assert _seen(example) == ([("user", "What is fog?")], "A low cloud.", "Dunno.")


def test_conversations_are_split_at_the_last_answer(dataset: Write) -> None:
    row = {"chosen": f"{HARMLESS} A low\n\ncloud.", "rejected": f"{HARMLESS} Dunno."}
    (example,) = read_examples(dataset(json.dumps(row), "rows.jsonl"), "dpo")
    chat = [("user", "Hi"), ("assistant", "Hello!"), ("user", "What is fog?")]
    assert _seen(example) == (chat, "A low\n\ncloud.", "Dunno.")


def test_pairs_from_csv(dataset: Write) -> None:
    source = dataset("prompt,chosen,rejected,system\nHi,Aye,No,be kind\n")
    (example,) = read_examples(source, "dpo")
    assert _seen(example) == ([("system", "be kind"), ("user", "Hi")], "Aye", "No")


def test_openai_lines_from_csv_hold_json(dataset: Write) -> None:
    cells = ['"' + json.dumps(OPENAI[name]).replace('"', '""') + '"' for name in OPENAI]
    (example,) = read_examples(dataset(f"{','.join(OPENAI)}\n{','.join(cells)}\n"), "dpo")
    assert _seen(example) == ([("user", "What is fog?")], "A low cloud.", "Dunno.")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"chosen": "A low cloud.", "rejected": f"{HARMLESS} No"}, "Row 2: 'chosen' has no '\\n\\nAssistant:'"),
        ({"chosen": HARMLESS, "rejected": f"{HARMLESS} No"}, "Row 2: 'chosen' ends without an answer"),
        ({"chosen": f"{HARMLESS} A", "rejected": "\n\nHuman: x\n\nAssistant: b"}, "same conversation"),
        ({"chosen": "Bot: x\n\nAssistant: a", "rejected": f"{HARMLESS} No"}, "does not begin with"),
        ({"chosen": f"{HARMLESS} A", "rejected": f"{HARMLESS} A"}, "are the same"),
        ({"chosen": f"{HARMLESS} A"}, "'rejected' is missing"),
        ({"chosen": f"{HARMLESS} A", "rejected": None}, "'rejected' is empty"),
    ],
)
def test_rows_that_are_no_pair_are_named(dataset: Write, bad: dict[str, Any], said: str) -> None:
    good = {"chosen": f"{HARMLESS} A low cloud.", "rejected": f"{HARMLESS} Dunno."}
    error = _refusal(dataset("\n".join(map(json.dumps, [good, bad])), "rows.jsonl"))
    assert "Row 2" in error.message
    assert said in error.message


def test_a_method_that_does_not_fit_the_data_is_told_the_one_that_does(dataset: Write) -> None:
    pairs = _refusal(dataset("prompt,chosen,rejected\na,b,c\n"), "supervised")
    assert pairs.code == "wrong_method"
    assert "Choose the method 'dpo'" in pairs.message
    turns = _refusal(dataset("prompt,response\na,b\n"), "dpo")
    assert turns.code == "wrong_method"
    assert "Choose the method 'supervised'" in turns.message
    assert _refusal(dataset("ask,reply\na,b\n"), "dpo").code == "missing_columns"


def test_parquet_rows_are_read_in_blocks_and_numbered(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    rows = [{"prompt": f"p{number}", "response": f"r{number}"} for number in range(1, 701)]
    rows[599]["response"] = ""
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=300)
    source = Source(path, "rows.parquet", "training_file")
    assert "Row 600: 'response' is empty" in _refusal(source, "supervised").message


@pytest.mark.parametrize(
    ("content", "filename", "said"),
    [
        (b"PAR1 and nothing", "rows.parquet", "no Parquet file"),
        (b"", "rows.parquet", "no Parquet file"),
        (b"", "rows.json", "no JSON"),
        (b'{"text": "a"}\n{"text": "b"}\n', "rows.json", "name it .jsonl"),
        (b'{"text": "a"}', "rows.json", "must be a list"),
        (b'[{"text": "a"}, "b"]', "rows.json", "row 2 is no JSON object"),
        (b"[]", "rows.json", "no rows"),
        (b'[{"text": NaN}]', "rows.json", "NaN"),
        (b'[{"text": "\xff"}]', "rows.json", "not UTF-8 (0xff)"),
        (b"[" * 100_000, "rows.json", "no JSON"),
        (b'[{"text": "' + b"x" * (2**20 + 1) + b'"}]', "rows.json", "row 1 has a text of more"),
    ],
)
def test_files_that_are_not_what_they_say_are_refused(dataset: Write, content: bytes, filename: str, said: str) -> None:
    assert said in _refusal(dataset(content, filename), "supervised").message


def test_a_list_inside_an_object_is_found(dataset: Write) -> None:
    content = json.dumps({"version": "1", "data": [{"text": "once"}, {"text": "twice"}]})
    texts = [example["text"] for example in read_examples(dataset(content, "rows.json"), "supervised")]
    assert texts == ["once", "twice"]
