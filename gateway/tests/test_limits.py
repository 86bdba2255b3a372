"""The policy without HTTP."""

import asyncio
from dataclasses import dataclass

import pytest

from tunesmith_gateway.limits import GenerationQueue, Limiter, Limits
from tunesmith_shared.errors import TooManyRequests, Unavailable


@dataclass
class Clock:
    seconds: float = 0

    def __call__(self) -> float:
        return self.seconds


def test_requests_are_refused_over_the_rate_and_told_when_to_come_back() -> None:
    clock = Clock()
    limiter = Limiter(Limits(requests_per_minute=2), clock)
    for _ in range(2):
        limiter.count_request("a", {})
    with pytest.raises(TooManyRequests) as refused:
        limiter.count_request("a", {})
    assert refused.value.retry_after == 30
    limiter.count_request("b", {})
    clock.seconds += 30
    limiter.count_request("a", {})


def test_a_keys_own_limit_replaces_the_default() -> None:
    limiter = Limiter(Limits(requests_per_minute=1), Clock())
    for _ in range(100):
        limiter.count_request("free", {"requests_per_minute": 0})
    limiter.count_request("strict", {})
    with pytest.raises(TooManyRequests):
        limiter.count_request("strict", {})


def test_tokens_are_paid_afterwards_and_waited_for() -> None:
    clock = Clock()
    limiter = Limiter(Limits(tokens_per_minute=60), clock)
    spent = limiter.begin("a", {})
    assert spent.metered
    spent.tokens += 90
    limiter.end("a", spent)
    with pytest.raises(TooManyRequests) as refused:
        limiter.begin("a", {})
    assert refused.value.retry_after == 31
    clock.seconds += 31
    limiter.begin("a", {})


def test_concurrency_is_given_back() -> None:
    limiter = Limiter(Limits(concurrency=1), Clock())
    spent = limiter.begin("a", {})
    with pytest.raises(TooManyRequests):
        limiter.begin("a", {})
    limiter.end("a", spent)
    limiter.begin("a", {})


async def test_the_queue_lets_in_the_first_that_came_and_refuses_what_has_no_place() -> None:
    queue = GenerationQueue(running=1, waiting=2)
    await queue.enter()
    order: list[int] = []

    async def generation(number: int) -> None:
        await queue.enter()
        order.append(number)

    waiting = [asyncio.create_task(generation(number)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await queue.enter()
    assert (refused.value.code, refused.value.retry_after) == ("queue_full", 5)
    for _ in range(2):
        queue.leave()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == [0, 1]
    queue.leave()
    assert (queue.running, queue.waiting) == (0, 0)


@pytest.mark.parametrize("place_came", [False, True])
async def test_a_generation_that_stops_waiting_keeps_no_place(place_came: bool) -> None:
    queue = GenerationQueue(running=1, waiting=2)
    await queue.enter()
    impatient = asyncio.create_task(queue.enter())
    patient = asyncio.create_task(queue.enter())
    await asyncio.sleep(0)
    if place_came:
        queue.leave()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    if not place_came:
        queue.leave()
    await patient
    assert (queue.running, queue.waiting) == (1, 0)
