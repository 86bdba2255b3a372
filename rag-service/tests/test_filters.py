"""OpenAI's filters as conditions on chunks."""

from typing import Any

import pytest

from tunesmith_rag.filters import to_condition
from tunesmith_shared.errors import BadRequest


def test_a_comparison_names_an_attribute() -> None:
    assert to_condition({"type": "eq", "key": "year", "value": 2024}) == {"attribute:year": {"$eq": 2024}}


def test_a_chunks_own_facts_are_compared_under_their_names() -> None:
    assert to_condition({"type": "in", "key": "filename", "value": ["a.pdf"]}) == {"filename": {"$in": ["a.pdf"]}}


def test_an_attribute_cannot_reach_the_documents_own_key() -> None:
    assert to_condition({"type": "ne", "key": "document", "value": "x"}) == {"attribute:document": {"$ne": "x"}}


def test_filters_are_joined() -> None:
    parts = [{"type": "gte", "key": "page", "value": 2}, {"type": "lt", "key": "page", "value": 5}]
    assert to_condition({"type": "and", "filters": parts}) == {"$and": [{"page": {"$gte": 2}}, {"page": {"$lt": 5}}]}
    assert to_condition({"type": "or", "filters": parts[:1]}) == {"page": {"$gte": 2}}


NESTED: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}
for _ in range(20):
    NESTED = {"type": "and", "filters": [NESTED]}


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({}, '"type" must be'),
        ({"type": "like", "key": "a", "value": "b"}, "'like'"),
        ({"type": "eq", "value": 1}, '"key"'),
        ({"type": "in", "key": "a", "value": 1}, "a list"),
        ({"type": "in", "key": "a", "value": []}, "a list"),
        ({"type": "eq", "key": "a", "value": [1]}, "one value"),
        ({"type": "eq", "key": "a", "value": {"$gt": 1}}, "text, numbers"),
        ({"type": "gt", "key": "a", "value": "x"}, "compares numbers"),
        ({"type": "and", "filters": []}, "needs a list"),
        (NESTED, "nested deeper"),
    ],
)
def test_what_is_no_filter_is_refused(filters: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        to_condition(filters)
