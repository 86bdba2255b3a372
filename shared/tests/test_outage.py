import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tunesmith_shared.database import Database
from tunesmith_shared.outage import outlast


async def test_work_goes_on_when_the_database_is_back(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'volume' / 'tunesmith.db'}")
    refused = asyncio.Event()
    calls = 0

    async def count() -> int:
        nonlocal calls
        calls += 1
        try:
            async with database.session() as session:
                return int((await session.execute(text("SELECT 7"))).scalar_one())
        except OperationalError:
            refused.set()
            raise

    work = asyncio.create_task(outlast(count))
    try:
        await asyncio.wait_for(refused.wait(), 60)
        assert not work.done()
        (tmp_path / "volume").mkdir()
        assert await asyncio.wait_for(work, 60) == 7
        assert calls > 1
    finally:
        work.cancel()
        await database.close()


async def test_a_mistake_of_ours_is_not_repeated(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'tunesmith.db'}")

    async def misspell() -> None:
        async with database.session() as session:
            await session.execute(text("SELECT * FROM nosuch"))

    try:
        with pytest.raises(OperationalError):
            await outlast(misspell)
    finally:
        await database.close()
