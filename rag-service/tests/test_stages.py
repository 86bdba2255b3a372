"""The stages after the indexes, each by itself: terms, evidence, diversity, passages."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tunesmith_rag.diversity import diverse_order
from tunesmith_rag.evidence import Evidence, weigh
from tunesmith_rag.index import Chunk
from tunesmith_rag.lexical import LexicalIndex
from tunesmith_rag.passages import join_texts, merged
from tunesmith_rag.ranking import Result
from tunesmith_rag.terms import SharedTerms, terms_of
from tunesmith_shared.tables import Document

DOCUMENT = Document(id="doc-1", file_id="file-1", filename="a.pdf", attributes={})


def result(index: int, text: str, page: int = 1, score: float = 0.5) -> Result:
    return Result(Chunk("doc-1", index, page, text), DOCUMENT, score, 0.01)


def test_terms_are_stemmed_as_in_the_full_text_index_and_codes_stay() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        expected = [{"calibr", "gaug"}, set(), {"e07", "calibr", "a", "gaug"}]
        assert terms_of(connection, ["Calibrated GAUGES", "", "E07 calibrates a gauge"]) == expected
        assert terms_of(connection, ["a gauge"]) == [{"a", "gaug"}]  # nothing is left of the first texts


async def test_coverage_weighs_rare_terms_most_and_leaves_function_words_out(tmp_path: Path) -> None:
    index = LexicalIndex(tmp_path)
    texts = [*(f"The ferry number {number} leaves" for number in range(30)), "The ferry Borkum leaves"]
    await index.add("vs-1", [Chunk("doc-1", number, 1, text) for number, text in enumerate(texts)], {})
    asked = ["When does the ferry to Borkum leave?", "Where does the zeppelin leave?"]
    borkum = await index.compare("vs-1", asked[:1], ["The Borkum", "A ferry leaves", "what is the"])
    zeppelin = await index.compare("vs-1", asked[1:], ["The ferry leaves"])
    assert borkum.coverage(0) > 0.8
    assert 0.0 < borkum.coverage(1) < 0.2
    assert borkum.coverage(2) == 0.0
    assert borkum.known == [1.0]
    assert zeppelin.known[0] < 0.2
    nothing = await index.compare("vs-2", ["Borkum"], ["Borkum"])
    assert (nothing.known, nothing.coverage(0)) == ([0.0], 0.0)
    index.close()


async def test_a_word_with_the_stem_of_a_function_word_is_a_term_like_others(tmp_path: Path) -> None:
    index = LexicalIndex(tmp_path)
    await index.add("vs-1", [Chunk("doc-1", 0, 1, "Two herrings."), Chunk("doc-1", 1, 1, "The cat saw her.")], {})
    terms = await index.compare("vs-1", ["What about herrings?"], ["Two herrings.", "The cat."])
    assert (terms.coverage(0), terms.coverage(1)) == (1.0, 0.0)
    index.close()


async def test_a_code_that_stands_nowhere_in_the_store_is_told_from_one_that_does(tmp_path: Path) -> None:
    index = LexicalIndex(tmp_path)
    await index.add("vs-1", [Chunk("doc-1", 0, 1, "F05: outdoor sensor broken. Part 88-1203.")], {})
    asked = ["fault F05", "part 88-1203", "fault F31", "part 88-9917", "Which sensor breaks?"]
    assert (await index.compare("vs-1", asked, [])).identified == [True, True, False, False, True]
    index.close()


def test_evidence_grows_with_likeness_with_known_terms_and_with_the_lead_of_the_best_chunk() -> None:
    def score(similarities: list[float], coverages: list[float], known: float, identified: bool = True) -> float:
        terms = SharedTerms([{}], [known], [identified], [])
        return weigh([[one] for one in similarities], [[one] for one in coverages], terms, 0.5).score

    weak = score([0.3] * 7, [0.2] * 7, 0.4)
    assert weak < score([0.5] * 7, [0.2] * 7, 0.4)
    assert weak < score([0.3] * 7, [0.2] * 7, 1.0)
    assert weak < score([0.3] * 7, [0.9, *[0.2] * 6], 0.4)
    assert weak > score([0.3] * 7, [0.2] * 7, 0.4, identified=False)
    assert weigh([], [], SharedTerms([{}], [1.0], [True], []), 0.17).sufficient is False


def test_of_several_questions_the_evidence_is_that_of_the_one_that_is_answered_best() -> None:
    similarities, coverages = [[0.6, 0.7], [0.2, 0.6]], [[0.8, 0.1], [0.1, 0.9]]

    def evidence(*questions: int) -> Evidence:
        known, identified = [(0.9, 0.4)[one] for one in questions], [(True, False)[one] for one in questions]
        terms = SharedTerms([{} for _ in questions], known, identified, [])
        near, covered = ([[row[one] for one in questions] for row in rows] for rows in (similarities, coverages))
        return weigh(near, covered, terms, 0.5)

    assert evidence(0, 1) == evidence(0)
    assert evidence(0).score > evidence(1).score


def test_without_a_weight_the_order_is_that_of_the_scores() -> None:
    assert diverse_order([0.1, 0.9, 0.5], np.eye(3, dtype=np.float32), 0.0) == [1, 2, 0]
    assert diverse_order([], np.zeros((0, 0), np.float32), 0.3) == []


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_what_says_the_same_again_comes_later_whatever_the_scale_of_the_scores(scale: float) -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert diverse_order([1.0 * scale, 0.95 * scale, 0.8 * scale], vectors, 0.3) == [0, 2, 1]


def test_negative_scores_of_a_cross_encoder_are_an_order_too() -> None:
    assert diverse_order([-9.0, -1.0, -4.0], np.eye(3, dtype=np.float32), 0.3) == [1, 2, 0]


def test_neighbours_become_one_passage_in_the_place_of_the_best_with_their_overlap_once() -> None:
    found = [
        result(4, "poured over twenty minutes. It passes.", score=0.9),
        result(9, "Far away."),
        result(3, "Water is poured over twenty minutes.", score=0.4),
        result(5, "It passes. Always."),
        result(6, "Next page.", page=2),
    ]
    passages = merged(found)
    assert [passage.chunk.text for passage in passages] == [
        "Water is poured over twenty minutes. It passes. Always.",
        "Far away.",
        "Next page.",
    ]
    assert (passages[0].chunks, passages[0].chunk.index, passages[0].score) == (3, 3, 0.9)


def test_a_chunk_that_closes_a_gap_makes_one_passage_of_two() -> None:
    assert [passage.chunk.text for passage in merged([result(1, "a"), result(3, "c"), result(2, "b")])] == ["a\nb\nc"]


def test_short_ends_that_are_alike_by_chance_are_not_an_overlap() -> None:
    assert join_texts("the mast", "mast top") == "the mast\nmast top"
