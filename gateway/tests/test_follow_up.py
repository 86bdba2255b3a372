"""Which questions are searched together with the one before them."""

import pytest

from tunesmith_gateway.follow_up import searched_for

BEFORE = "What may a hotel cost a night?"


@pytest.mark.parametrize("question", ["And in the capital?", "What about the capital?", "Who pays for it?"])
def test_a_question_that_leans_on_the_one_before_is_searched_with_it_and_alone(question: str) -> None:
    assert searched_for(question, BEFORE) == [f"{BEFORE} {question}", question]


@pytest.mark.parametrize("question", ["fuse F6", "How old is the android?", "Which sandwich costs 4 crowns?"])
def test_a_question_that_stands_alone_is_searched_alone(question: str) -> None:
    assert searched_for(question, BEFORE) == [question]


def test_without_a_question_before_there_is_nothing_to_lean_on() -> None:
    assert searched_for("And in the capital?", None) == ["And in the capital?"]
    assert searched_for("And in the capital?", "") == ["And in the capital?"]


def test_of_a_long_question_before_the_last_words_are_searched() -> None:
    (together, _) = searched_for("And it?", "word " * 200 + "end")
    assert together.endswith("word end And it?")
    assert len(together) < 320
