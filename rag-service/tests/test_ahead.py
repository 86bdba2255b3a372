"""Stages of a pipeline that work at the same time, in order, and end together."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from tunesmith_rag.ahead import overlapping


async def numbers(count: int) -> AsyncGenerator[int]:
    for number in range(count):
        yield number


async def test_calls_overlap_and_results_come_in_order() -> None:
    under_way: set[int] = set()
    most = 0

    async def call(number: int) -> int:
        nonlocal most
        under_way.add(number)
        most = max(most, len(under_way))
        for _ in range(20 - number):  # the later ones would be ready first
            await asyncio.sleep(0)
        under_way.remove(number)
        return number * number

    async with aclosing(overlapping(numbers(10), call, 1)) as results:
        assert [found async for found in results] == [(number, number * number) for number in range(10)]
    assert most == 3  # the one that is waited for, the one behind it, and the one begun


async def test_an_error_comes_in_its_place_and_ends_the_other_calls() -> None:
    begun = asyncio.Event()
    cancelled: list[int] = []

    async def call(number: int) -> int:
        if number == 1:
            raise ValueError("no good")
        if number > 1:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
        return number

    found = []
    with pytest.raises(ValueError, match="no good"):
        async with aclosing(overlapping(numbers(10), call, 1)) as results:
            async for result in results:
                found.append(result)
                await begun.wait()
    assert found == [(0, 0)]
    assert cancelled == [2]
