"""The example files hold what README.md says: the PDF, the pages of the answers and the data sets."""

import csv
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from pypdf import PdfReader

EXAMPLES = Path(__file__).parents[1]

# Data set name, columns, fewest rows for training and for evaluation.
DATASETS = [
    ("lighthouse_keeper", ["prompt", "response"], 96, 20),
    ("ticket_notes", ["instruction", "input", "output"], 48, 12),
]


def read_rows(name: str) -> list[dict[str, str]]:
    """Read a CSV of the examples folder; the keys are its header."""
    with (EXAMPLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@cache
def page_texts() -> list[str]:
    """The handbook's text a page, in lower case, with every run of white space made one space."""
    reader = PdfReader(EXAMPLES / "handbook.pdf")
    return [" ".join(page.extract_text().split()).lower() for page in reader.pages]


def words_of(text: str) -> set[str]:
    """The distinct words of a text in lower case, without punctuation."""
    return {word.strip(".,;:?!'\"").lower() for word in text.split()}


def run_render(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the render script as a person would."""
    command = [sys.executable, str(EXAMPLES / "render.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_rendering_again_gives_the_same_bytes(tmp_path: Path) -> None:
    output = tmp_path / "handbook.pdf"
    result = run_render("--output", str(output))
    assert result.returncode == 0, result.stderr
    assert output.read_bytes() == (EXAMPLES / "handbook.pdf").read_bytes()


def test_a_chapter_that_is_too_long_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "long.md"
    source.write_text(
        "<!-- running head: A | B -->\n# Title\n\nHouse\n\nEdition\n\nNote\n\n## Contents\n\n## Long\n"
        + "\nMany words here.\n" * 90
    )
    result = run_render("--source", str(source), "--output", str(tmp_path / "long.pdf"))
    assert result.returncode != 0
    assert "Chapter 'Long' does not fit on page 3" in result.stderr


def test_every_page_extracts_as_text_and_carries_its_number() -> None:
    texts = page_texts()
    assert len(texts) == 10
    assert texts[0].startswith("operating handbook of the halden point weather station")
    for number, text in enumerate(texts[1:], start=2):
        assert text.endswith(f"page {number}")


def test_the_contents_page_names_the_page_of_each_chapter() -> None:
    lines = (EXAMPLES / "handbook.md").read_text(encoding="utf-8").splitlines()
    chapters = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    for page, chapter in enumerate(chapters[1:], start=3):
        assert f"{chapter} {page}".lower() in page_texts()[1]
        assert chapter.lower() in page_texts()[page - 1]


def test_each_answer_stands_on_its_page_and_on_no_other() -> None:
    for row in read_rows("questions.csv"):
        if row["page"]:
            pages = [number for number, text in enumerate(page_texts(), start=1) if row["answer"].lower() in text]
            assert pages == [int(row["page"])], row["question"]


def test_the_questions_cover_the_document_and_five_have_no_answer() -> None:
    rows = read_rows("questions.csv")
    assert list(rows[0]) == ["question", "answer", "page"]
    assert len({row["question"] for row in rows}) == len(rows) >= 30
    assert {int(row["page"]) for row in rows if row["page"]} == set(range(2, 11))
    unanswered = [row for row in rows if not row["page"]]
    assert len(unanswered) == 5
    assert all(row["answer"] == "" for row in unanswered)


@pytest.mark.parametrize(("name", "columns", "train_rows", "eval_rows"), DATASETS)
def test_data_sets_have_their_columns_and_no_empty_cell(
    name: str, columns: list[str], train_rows: int, eval_rows: int
) -> None:
    for part, fewest in (("train", train_rows), ("eval", eval_rows)):
        rows = read_rows(f"{name}_{part}.csv")
        assert len(rows) >= fewest
        for row in rows:
            assert list(row) == columns
            assert all(value.strip() == value != "" for value in row.values()), row


@pytest.mark.parametrize(("name", "columns"), [(name, columns) for name, columns, *_ in DATASETS])
def test_no_evaluation_row_resembles_a_training_row(name: str, columns: list[str]) -> None:
    asked = columns[-2]  # the column that differs from row to row: the prompt, or the input
    train = [words_of(row[asked]) for row in read_rows(f"{name}_train.csv")]
    for row in read_rows(f"{name}_eval.csv"):
        words = words_of(row[asked])
        closest = max(len(words & other) / len(words | other) for other in train)
        assert closest < 0.8, row[asked]


def test_the_keeper_speaks_in_one_manner() -> None:
    rows = read_rows("lighthouse_keeper_train.csv") + read_rows("lighthouse_keeper_eval.csv")
    assert len({row["prompt"] for row in rows}) == len(rows)
    for row in rows:
        assert row["response"].startswith("Aye, traveller, you ask about ")
        assert row["response"].endswith("Mind the rocks and keep your lamp lit.")
        assert 30 <= len(row["response"].split()) <= 60
