"""Reciprocal rank fusion."""

from tunesmith_rag.fusion import RANK_CONSTANT, Ranking, fuse


def test_what_several_rankings_find_beats_what_one_finds_first() -> None:
    assert list(fuse([Ranking(["a", "b"]), Ranking(["c", "b"])])) == ["b", "a", "c"]


def test_a_ranking_with_more_weight_decides() -> None:
    assert list(fuse([Ranking(["a", "b"], weight=3), Ranking(["b", "a"]), Ranking(["b", "a"])])) == ["a", "b"]


def test_equal_scores_keep_the_order_in_which_they_came() -> None:
    assert list(fuse([Ranking(["a"]), Ranking(["b"])])) == ["a", "b"]


def test_one_ranking_is_kept_as_it_is() -> None:
    names = [str(number) for number in range(RANK_CONSTANT * 2)]
    assert list(fuse([Ranking(names)])) == names


def test_nothing_gives_nothing() -> None:
    assert fuse([]) == fuse([Ranking([])]) == {}


def test_scores_are_sums_of_reciprocal_ranks_and_no_weight_is_no_say() -> None:
    scores = fuse([Ranking(["a", "b"]), Ranking(["b"], weight=2), Ranking(["c"], weight=0)])
    assert scores == {"b": 1 / 62 + 2 / 61, "a": 1 / 61}
