"""The last use of a vector store: noted after a search, seldom, and never taken back."""

import pytest
from sqlalchemy import update

from tunesmith_rag.uses import NOTED_EVERY, Uses
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.tables import VectorStore

STORE = "vs-1"


async def used_at(database: Database, time: int) -> VectorStore:
    """Add the store, last used at `time`; return it as a request reads it."""
    async with database.session() as session:
        session.add(
            VectorStore(
                id=STORE, owner="me", name="", embedding_model="m", details={}, created_at=1, last_active_at=time
            )
        )
    return await stored(database)


async def stored(database: Database) -> VectorStore:
    async with database.session() as session:
        return await session.get_one(VectorStore, STORE)


async def move(database: Database, time: int) -> None:
    async with database.session() as session:
        await session.execute(update(VectorStore).values(last_active_at=time))


async def test_a_use_is_noted_and_the_next_one_not_before_a_minute_has_passed(database: Database) -> None:
    store, uses, before = await used_at(database, 1), Uses(database), now()
    uses.note(store)
    uses.note(store)
    await uses.close()
    noted = await stored(database)
    assert before <= noted.last_active_at <= now()
    await move(database, now() - NOTED_EVERY // 2)
    recent = await stored(database)
    uses.note(recent)
    await uses.close()
    assert (await stored(database)).last_active_at == recent.last_active_at
    await move(database, now() - NOTED_EVERY)
    uses.note(await stored(database))
    await uses.close()
    assert (await stored(database)).last_active_at > recent.last_active_at


async def test_a_later_use_that_another_process_noted_stays(database: Database) -> None:
    store, uses, later = await used_at(database, 1), Uses(database), now() + 100
    await move(database, later)
    uses.note(store)
    await uses.close()
    assert (await stored(database)).last_active_at == later


async def test_a_database_that_is_away_costs_no_search_and_the_next_one_is_noted(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    store = await used_at(database, 1)
    away = Database("sqlite+aiosqlite:////nowhere/at/all.sqlite3")
    uses = Uses(away)
    uses.note(store)
    await uses.close()
    await away.close()
    assert f"the use of {STORE} could not be noted" in caplog.text
    again = Uses(database)
    again.note(store)
    await again.close()
    assert (await stored(database)).last_active_at > 1
