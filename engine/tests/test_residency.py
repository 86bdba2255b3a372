"""Which models go so that another fits."""

from tunesmith_engine.residency import Limits, Resident, choose_evictions

LIMITS = Limits(bytes=100, models=3)


def resident(key: str, size: int, used_at: float, *, busy: bool = False) -> Resident:
    return Resident(key, size, used_at, busy)


def test_nothing_goes_while_there_is_room() -> None:
    assert choose_evictions([resident("a", 40, 1)], 60, LIMITS) == []


def test_the_least_recently_used_goes_first_and_no_more_than_needed() -> None:
    loaded = [resident("new", 30, 9), resident("old", 30, 1), resident("middle", 30, 5)]
    assert choose_evictions(loaded, 40, LIMITS) == ["old"]
    assert choose_evictions(loaded, 70, LIMITS) == ["old", "middle"]


def test_a_busy_model_stays_even_when_it_is_the_oldest() -> None:
    loaded = [resident("busy", 50, 1, busy=True), resident("idle", 50, 2)]
    assert choose_evictions(loaded, 50, LIMITS) == ["idle"]


def test_the_caller_waits_when_only_busy_models_could_go() -> None:
    assert choose_evictions([resident("busy", 60, 1, busy=True)], 50, LIMITS) is None


def test_idle_models_are_kept_when_their_room_would_not_do() -> None:
    loaded = [resident("busy", 60, 1, busy=True), resident("idle", 10, 2)]
    assert choose_evictions(loaded, 50, LIMITS) is None


def test_the_number_of_models_is_limited_too() -> None:
    loaded = [resident(name, 1, used_at) for used_at, name in enumerate("abc")]
    assert choose_evictions(loaded, 1, LIMITS) == ["a"]
