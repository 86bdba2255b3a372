"""Threads take items by themselves, a question's before the rest of a document's."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tunesmith_rag.turns import Turns


@pytest.fixture
def turns() -> Iterator[Turns]:
    turns = Turns(1)
    yield turns
    turns.close()


class Held:
    """Work whose first item waits until the test lets it go on."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, item: str) -> None:
        self.seen.append(item)
        if len(self.seen) == 1:
            self.begun.set()
            assert self.go_on.wait(60)


async def test_a_call_of_one_item_comes_next_and_longer_ones_in_their_order(turns: Turns) -> None:
    work = Held()
    async with asyncio.TaskGroup() as group:
        for items in (["a1", "a2", "a3"], ["b1", "b2"], ["question"]):
            group.create_task(turns.each(work, items))
            await asyncio.to_thread(work.begun.wait, 60)
        work.go_on.set()
    assert work.seen == ["a1", "question", "a2", "a3", "b1", "b2"]


async def test_every_item_is_worked_on_once_by_several_threads() -> None:
    turns, both = Turns(2), threading.Barrier(2, timeout=60)
    seen: list[int] = []

    def work(item: int) -> None:
        both.wait()  # passed only when two threads work at the same time
        seen.append(item)

    await turns.each(work, range(10))
    await turns.each(work, [])
    turns.close()
    assert sorted(seen) == list(range(10))


async def test_after_an_error_nothing_more_is_begun(turns: Turns) -> None:
    seen: list[int] = []

    def work(item: int) -> None:
        seen.append(item)
        raise ValueError(f"{item} is no good")

    with pytest.raises(ValueError, match="1 is no good"):
        await turns.each(work, [1, 2, 3])
    assert seen == [1]


async def test_what_nobody_waits_for_any_more_is_not_begun(turns: Turns) -> None:
    work = Held()
    call = asyncio.create_task(turns.each(work, ["a1", "a2", "a3"]))
    await asyncio.to_thread(work.begun.wait, 60)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    work.go_on.set()
    await turns.each(work, ["question"])
    assert work.seen == ["a1", "question"]
