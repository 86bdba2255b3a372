"""Rows of public datasets, in the shapes that they have there, become what is meant."""

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

ROWS: dict[str, tuple[dict[str, Any], str, str]] = {
    "alpaca": (
        {"instruction": "Name the sea.", "input": "It lies between Africa and Europe.", "output": "The Mediterranean.",
         "text": "Below is an instruction ... ### Response: The Mediterranean."},
        "Name the sea.\n\nIt lies between Africa and Europe.", "The Mediterranean.",
    ),
    "dolly": (
        {"instruction": "When did it open?", "context": "The lighthouse opened in 1887.", "response": "In 1887.",
         "category": "closed_qa"},
        "The lighthouse opened in 1887.\n\nWhen did it open?", "In 1887.",
    ),
    "gsm8k": (
        {"question": "48 in April, half as many in May. Altogether?",
         "answer": "May: 48/2 = <<48/2=24>>24.\nAltogether 48+24 = <<48+24=72>>72.\n#### 72"},
        "48 in April, half as many in May. Altogether?",
        "May: 48/2 = 24.\nAltogether 48+24 = 72.\n\nThe answer is 72.",
    ),
    "metamathqa": (
        {"type": "GSM_Rephrased", "query": "What is 2 + 2?", "original_question": "Add 2 and 2.",
         "response": "2 + 2 = 4.\n#### 4\nThe answer is: 4"},
        "What is 2 + 2?", "2 + 2 = 4.\n#### 4\nThe answer is: 4",
    ),
    "hotpot_qa": (
        {"id": "5a7a", "question": "Which is older?", "answer": "Arthur's Magazine", "type": "comparison",
         "level": "medium", "supporting_facts": {"title": ["Arthur's Magazine", "First"], "sent_id": [0, 0]},
         "context": {"title": ["Arthur's Magazine", "First"],
                     "sentences": [["It began in 1844.", " It ended in 1846."], ["It began in 1989."]]}},
        "Arthur's Magazine: It began in 1844. It ended in 1846.\n\nFirst: It began in 1989.\n\nWhich is older?",
        "Arthur's Magazine",
    ),
    "mmlu": (
        {"question": "What is 2 squared?", "subject": "algebra", "choices": ["1", "2", "4", "8"], "answer": 2},
        "What is 2 squared?\n\nA. 1\nB. 2\nC. 4\nD. 8", "C. 4",
    ),
    "commonsense_qa": (
        {"id": "075e", "question": "Where is a river?", "question_concept": "river", "answerKey": "B",
         "choices": {"label": ["A", "B", "C"], "text": ["sky", "valley", "shelf"]}},
        "Where is a river?\n\nA. sky\nB. valley\nC. shelf", "B. valley",
    ),
    "trivia_qa": (
        {"question": "Who wrote Dubliners?", "question_id": "tc_1", "question_source": "http://www.example.org/",
         "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
         "search_results": {"description": [], "filename": [], "rank": [], "title": [], "url": []},
         "answer": {"aliases": ["Joyce", "James Joyce"], "normalized_aliases": ["joyce"], "value": "James Joyce",
                    "matched_wiki_entity_name": "", "normalized_matched_wiki_entity_name": "",
                    "normalized_value": "james joyce", "type": "WikipediaEntity"}},
        "Who wrote Dubliners?", "James Joyce",
    ),
    "truthful_qa": (
        {"type": "Adversarial", "category": "Misconceptions", "question": "What if you swallow seeds?",
         "best_answer": "They pass through.", "correct_answers": ["They pass through.", "Nothing."],
         "incorrect_answers": ["They grow.", "You die."], "source": "https://example.org"},
        "What if you swallow seeds?", "They pass through.",
    ),
    "truthful_qa-choices": (
        {"question": "What if you swallow seeds?",
         "mc1_targets": {"choices": ["They grow.", "They pass through."], "labels": [0, 1]},
         "mc2_targets": {"choices": ["They grow.", "Nothing.", "They pass through."], "labels": [0, 1, 1]}},
        "What if you swallow seeds?", "They pass through.",
    ),
    "hh-rlhf": (
        {"chosen": "\n\nHuman: What is fog?\n\nAssistant: A low cloud.",
         "rejected": "\n\nHuman: What is fog?\n\nAssistant: Dunno."},
        "What is fog?", "A low cloud.",
    ),
}  # fmt: skip
BY_NAME_ALONE = ("gsm8k", "hh-rlhf")


def _turns(example: Example) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in example["messages"] or []]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_becomes_a_question_and_its_answer(tmp_path: Path, name: str, kind: str) -> None:
    row, asked, answered = ROWS[name]
    path = tmp_path / "upload"
    if kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row))
    source = Source(path, f"rows.{kind}", "training_file")
    (named,) = read_examples(source, "supervised", name)
    assert _turns(named) == [("user", asked), ("assistant", answered)]
    if name not in BY_NAME_ALONE:
        assert list(read_examples(source, "supervised")) == [named]


@pytest.mark.parametrize("name", ["mmlu", "commonsense_qa", "hotpot_qa", "trivia_qa"])
def test_lists_in_csv_cells_are_json(dataset: Write, name: str) -> None:
    row, asked, answered = ROWS[name]
    cells = [value if isinstance(value, str) else json.dumps(value) for value in row.values()]
    quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    (example,) = read_examples(dataset(f"{','.join(row)}\n{quoted}\n"), "supervised")
    assert _turns(example) == [("user", asked), ("assistant", answered)]


@pytest.mark.parametrize("name", ["best_answer,incorrect_answers", "Best Answer,Incorrect Answers"])
def test_truthful_answers_are_pairs_too(dataset: Write, name: str) -> None:
    source = dataset(f"Question,{name}\nWhat if?,Nothing.,They grow; You die\n")
    (example,) = read_examples(source, "dpo")
    assert _turns(example) == [("user", "What if?")]
    assert (example["chosen"], example["rejected"]) == ("Nothing.", "They grow")


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("gsm8k", {"answer": "It is 72."}, "no '####'"),
        ("mmlu", {"answer": 4}, "none of the choices"),
        ("mmlu", {"choices": []}, "'choices' is no list of texts"),
        ("commonsense_qa", {"answerKey": ""}, "'answerkey' is empty"),
        ("commonsense_qa", {"answerKey": "E"}, "none of the choices"),
        ("hotpot_qa", {"context": "text"}, "'context' is no JSON"),
        ("hotpot_qa", {"context": {"title": []}}, "no titles and sentences"),
        ("trivia_qa", {"answer": {"value": ""}}, "'value' is empty"),
        ("truthful_qa-choices", {"mc1_targets": {"choices": ["a"], "labels": [0]}}, "no true choice"),
        ("hh-rlhf", {"chosen": "Hello"}, "no '\\n\\nAssistant:'"),
    ],
)
def test_rows_of_another_shape_are_named(dataset: Write, name: str, changes: dict[str, Any], said: str) -> None:
    lines = "\n".join(json.dumps(row) for row in (ROWS[name][0], {**ROWS[name][0], **changes}))
    with pytest.raises(BadRequest) as refused:
        list(read_examples(dataset(lines, "rows.jsonl"), "supervised", name))
    assert "Row 2" in refused.value.message
    assert said in refused.value.message


def test_a_format_that_there_is_not_or_that_does_not_fit_is_refused(dataset: Write) -> None:
    source = dataset("question,answer\na,b\n")
    for name, code, said in (("nosuch", "unknown_format", "gsm8k"), ("mmlu", "missing_columns", "choices")):
        with pytest.raises(BadRequest) as refused:
            list(read_examples(source, "supervised", name))
        assert refused.value.code == code
        assert said in refused.value.message
