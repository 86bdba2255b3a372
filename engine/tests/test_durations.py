"""Durations as Ollama's clients write them."""

import pytest

from tunesmith_engine.durations import parse_duration


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("1.5s", 1.5), ("0", 0), ("0s", 0), ("-0s", 0), ("30", 30),
        (10, 10), (2.5, 2.5), (0, 0), ("-1", None), ("-1s", None), (-1, None), ("+2m", 120),
    ],
)  # fmt: skip
def test_a_duration_is_read_and_a_negative_one_is_for_ever(value: str | float, seconds: float | None) -> None:
    assert parse_duration(value) == seconds


@pytest.mark.parametrize("value", ["", "soon", "5x", "m5", "5m x", "1h 30m"])
def test_what_is_no_duration_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(value)
