import re

from tunesmith_shared.ids import new_id


def test_ids_are_distinct_and_sort_by_the_order_of_making() -> None:
    made = [new_id("file") for _ in range(1000)]
    assert len(set(made)) == 1000
    assert sorted(made) == made
    assert all(re.fullmatch(r"file-[0-9a-z]{24}", one) for one in made)
