"""Several datasets as one: samples, weights, rated answers, and rows longer than the model reads."""

from collections.abc import Callable

import pytest

from tunesmith_finetune.datasets.encode import NOT_LEARNT, EncodedExample, EncodedPair, truncated
from tunesmith_finetune.datasets.formats import read_examples
from tunesmith_finetune.datasets.mixture import sample, weighted
from tunesmith_finetune.datasets.source import Source
from tunesmith_shared.errors import BadRequest

Write = Callable[..., Source]


def test_a_sample_is_of_all_rows_in_their_order_and_the_same_for_the_same_seed() -> None:
    drawn = sample(range(1000), 100, seed=3)
    assert len(drawn) == 100
    assert drawn == sorted(set(drawn))
    assert drawn == sample(iter(range(1000)), 100, seed=3)
    assert drawn != sample(range(1000), 100, seed=4)
    assert max(drawn) > 900
    assert sample(range(5), 10, seed=1) == [0, 1, 2, 3, 4]
    assert sample(range(5), None, seed=1) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("weight", "count"), [(1.0, 10), (2.0, 20), (0.5, 5), (1.3, 13), (0.01, 1)])
def test_a_weight_says_how_often_each_row_is_seen(weight: float, count: int) -> None:
    rows = weighted(list(range(10)), weight, seed=7)
    assert len(rows) == count
    times = [rows.count(number) for number in range(10)]
    assert max(times) - min(times) <= 1


def test_rated_answers(dataset: Write) -> None:
    source = dataset("prompt,completion,label\nHi,Aye,true\nHi,No,0\nHi,Hm,False\n")
    examples = list(read_examples(source, "kto"))
    assert [(example["chosen"], example["rejected"]) for example in examples] == [
        ("Aye", None),
        (None, "No"),
        (None, "Hm"),
    ]
    lines = '{"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}], "label": true}'
    (chat,) = read_examples(dataset(lines, "rows.jsonl"), "kto")
    assert (chat["messages"], chat["chosen"]) == ([{"role": "user", "content": "u"}], "a")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("prompt,completion,label\nHi,Aye,maybe\n", "Row 2: 'label' must be true or false"),
        ("prompt,completion,label\nHi,Aye,\n", "Row 2: 'label' is empty"),
        ("prompt,completion,label\nHi,,1\n", "Row 2: 'completion' is empty"),
        ("prompt,chosen,rejected\nHi,Aye,No\n", "Choose the method 'dpo' or 'orpo'"),
    ],
)
def test_what_is_no_rated_answer_is_refused(dataset: Write, content: str, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        list(read_examples(dataset(content), "kto"))
    assert said in refused.value.message


def test_rows_are_cut_only_where_something_to_learn_is_left() -> None:
    row = EncodedExample(row=2, input_ids=[1, 2, 3, 4], labels=[NOT_LEARNT, NOT_LEARNT, 3, 4])
    assert truncated(row, 3) == {"row": 2, "input_ids": [1, 2, 3], "labels": [NOT_LEARNT, NOT_LEARNT, 3]}
    assert truncated(row, 2) is None
    pair = EncodedPair(row=2, prompt_ids=[1, 2], chosen_ids=[3, 4], rejected_ids=[3, 5, 6])
    assert truncated(pair, 4) == {**pair, "rejected_ids": [3, 5]}
    assert truncated(pair, 3) is None
