"""The question set says where its answers stand; this checks that they stand there."""

from collections import Counter

import pytest
from benchmarks.documents.quality.questions import SOURCES, halves, read_questions
from benchmarks.documents.quality.store import render_all

from tunesmith_rag.pdf import read_pages


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The words of each page of each document, as ingestion reads it, without the bars between a table's cells."""
    made = render_all(tmp_path_factory.mktemp("documents"))
    return {name: [_words(page.text) for page in read_pages(path, 100)] for name, path in made.items()}


def _words(text: str) -> str:
    return " ".join(text.replace(" | ", " ").split())


def test_each_quote_stands_on_its_page_and_on_no_other_of_its_document(pages: dict[str, list[str]]) -> None:
    for asked in read_questions():
        if asked.answerable:
            found = [number for number, text in enumerate(pages[asked.document], start=1) if asked.quote in text]
            assert found == [asked.page], asked


def test_each_value_that_an_answer_must_have_stands_on_the_page(pages: dict[str, list[str]]) -> None:
    for asked in read_questions():
        if asked.answerable:
            assert asked.value
            assert asked.value.lower() in pages[asked.document][asked.page - 1].lower(), asked


def test_questions_without_an_answer_name_no_place() -> None:
    unanswerable = [asked for asked in read_questions() if not asked.answerable]
    assert {asked.kind for asked in unanswerable} == {"near", "off"}
    assert all(asked.place == ("", 0) and not asked.quote and not asked.value for asked in unanswerable)


def test_the_set_is_large_enough_and_covers_every_document() -> None:
    questions = read_questions()
    assert len({asked.text for asked in questions}) == len(questions)
    assert sum(asked.answerable for asked in questions) >= 100
    assert sum(not asked.answerable for asked in questions) >= 30
    assert {asked.document for asked in questions if asked.answerable} == set(SOURCES)


def test_the_halves_share_no_question_and_are_alike() -> None:
    tuning, held_out = halves(read_questions())
    assert sorted([*tuning, *held_out], key=str) == sorted(read_questions(), key=str)
    kinds = [Counter(asked.kind for asked in half) for half in (tuning, held_out)]
    assert all(abs(kinds[0][kind] - kinds[1][kind]) <= 1 for kind in kinds[0])


def test_the_documents_say_that_they_are_invented() -> None:
    for path in SOURCES.values():
        assert "invented" in path.read_text(encoding="utf-8").split("\n## ")[0], path
