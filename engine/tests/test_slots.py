"""Who gets a model's slots, and that none is lost."""

import asyncio

from tunesmith_engine.slots import Lease, Slots


async def _turns() -> None:
    """Let every task go on until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_whoever_asks_gets_as_many_as_are_free() -> None:
    slots = Slots(4)
    assert (await slots.take()).count == 1
    assert (await slots.take(5)).count == 3


async def test_those_who_wait_are_served_in_their_order_and_a_group_takes_what_is_there() -> None:
    slots = Slots(4)
    everything = await slots.take(4)
    group = asyncio.create_task(slots.take(3))
    single = asyncio.create_task(slots.take())
    await _turns()
    everything.give_one()
    await _turns()
    assert group.done(), "the group came first, and one slot is enough to begin"
    assert group.result().count == 1
    assert not single.done()
    everything.close()
    assert (await single).count == 1
    assert (await slots.take(9)).count == 2


async def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    slots = Slots(1)
    first = await slots.take()
    order: list[str] = []

    async def work(name: str) -> None:
        lease = await slots.take()
        order.append(name)
        lease.close()

    waiting = [asyncio.create_task(work(name)) for name in ("second", "third")]
    await _turns()
    first.close()
    await asyncio.gather(work("newcomer"), *waiting)
    assert order == ["second", "third", "newcomer"]


async def test_a_slot_of_somebody_who_left_goes_to_the_next() -> None:
    slots = Slots(1)
    first = await slots.take()
    left, served_and_left, stays = (asyncio.create_task(slots.take()) for _ in range(3))
    await _turns()
    left.cancel()
    await _turns()
    first.close()
    served_and_left.cancel()  # between the slot's coming and the task's turn
    assert isinstance(await stays, Lease)
    stays.result().close()
    assert (await slots.take()).count == 1


async def test_a_closed_lease_gives_back_only_what_it_still_has() -> None:
    slots = Slots(3)
    lease = await slots.take(3)
    lease.give_one()
    lease.close()
    lease.close()
    assert (await slots.take(9)).count == 3
