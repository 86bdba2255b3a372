import asyncio

import orjson
import pytest

from tunesmith_gateway.exports import exported
from tunesmith_gateway.sessions import Said, SessionService
from tunesmith_shared.database import Database
from tunesmith_shared.errors import NotFound, TooManyRequests


async def test_turns_of_two_processes_are_stored_one_after_the_other(database: Database, database_url: str) -> None:
    other = Database(database_url)
    here, there = SessionService(database), SessionService(other)
    turns = [
        sessions.append("alice", "s", "m", [Said("user", f"{name}{number}"), Said("assistant", f"{name}{number}")])
        for number in range(8)
        for name, sessions in (("a", here), ("b", there))
    ]
    await asyncio.gather(*turns)
    await other.close()
    rows = await here.history("alice", "s")
    assert [row.position for row in rows] == list(range(32))
    assert [row.content for row in rows[::2]] == [row.content for row in rows[1::2]]
    assert [row.role for row in rows] == ["user", "assistant"] * 16


async def test_one_turn_of_a_session_at_a_time_in_the_order_of_arrival(database: Database) -> None:
    sessions, order = SessionService(database), []

    async def turn(number: int) -> None:
        async with sessions.turn("alice", "s"):
            order.append(("begins", number))
            await asyncio.sleep(0)
            order.append(("ends", number))

    await asyncio.gather(*(turn(number) for number in range(4)))
    assert order == [(what, number) for number in range(4) for what in ("begins", "ends")]


async def test_sessions_do_not_wait_for_each_other_and_few_wait_for_one(database: Database) -> None:
    sessions = SessionService(database)
    async with sessions.turn("alice", "s"), sessions.turn("bob", "s"), sessions.turn("alice", "t"):
        waiting = [asyncio.ensure_future(sessions.turn("alice", "s").__aenter__()) for _ in range(16)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await sessions.turn("alice", "s").__aenter__()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with sessions.turn("alice", "s"):
        pass


async def test_sessions_are_listed_page_after_page_the_last_used_first(database: Database) -> None:
    sessions = SessionService(database)
    for name in ("a", "b", "c", "d", "e"):
        await sessions.append("alice", name, "m", [Said("user", name)])
    await sessions.append("bob", "f", "m", [Said("user", "f")])
    whole = [row.id for row in await sessions.page("alice", None, 100)]
    assert sorted(whole) == ["a", "b", "c", "d", "e"]
    paged: list[str] = []
    while page := await sessions.page("alice", paged[-1] if paged else None, 2):
        paged += [row.id for row in page]
    assert paged == whole
    with pytest.raises(NotFound):
        await sessions.page("alice", "f", 2)


async def test_a_session_is_exported_in_three_formats(database: Database) -> None:
    sessions = SessionService(database)
    await sessions.append("alice", "s", "m:latest", [Said("user", "Hello <b>"), Said("assistant", "Good *day*")])
    session, messages = await sessions.get("alice", "s"), await sessions.history("alice", "s")
    whole = orjson.loads(exported(session, messages, "json"))
    assert (whole["session_id"], whole["model"], len(whole["messages"])) == ("s", "m:latest", 2)
    row = exported(session, messages, "jsonl")
    assert row.count(b"\n") == 1
    assert orjson.loads(row)["messages"][1] == {"role": "assistant", "content": "Good *day*"}
    assert "## user\n\nHello <b>\n\n## assistant\n\nGood *day*\n" in exported(session, messages, "markdown").decode()
