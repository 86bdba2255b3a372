from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from tunesmith_shared.database import Database, failure
from tunesmith_shared.errors import StorageFull, Unavailable
from tunesmith_shared.tables import Base, Model

ROW = {"name": "m:latest", "owner": "alice", "base_model": "b:latest", "created_at": 1}


async def test_a_session_commits_at_its_end(database: Database) -> None:
    async with database.session() as session:
        session.add(Model(**ROW))
    async with database.session() as session:
        assert (await session.scalars(select(Model.owner))).all() == ["alice"]


async def test_a_session_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.session() as session:
            session.add(Model(**ROW))
            await session.flush()
            raise RuntimeError
    async with database.session() as session:
        assert (await session.scalars(select(Model))).all() == []


async def test_the_migrations_make_exactly_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_glance_sees_what_was_committed_just_before(database: Database) -> None:
    query = select(Model.owner).where(Model.name == bindparam("name"))
    assert await database.glance(query, {"name": "m:latest"}) is None
    async with database.session() as session:
        session.add(Model(**ROW))
    found = await database.glance(query, {"name": "m:latest"})
    assert found is not None
    assert found.owner == "alice"


async def test_a_full_database_is_said_to_be_full(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'small.db'}")
    try:
        with pytest.raises(OperationalError) as raised:
            async with database.session() as session:
                await session.execute(text("PRAGMA max_page_count = 4"))
                await session.execute(text("CREATE TABLE kept (content BLOB)"))
                await session.execute(text("INSERT INTO kept VALUES (zeroblob(1000000))"))
        assert isinstance(failure(raised.value), StorageFull)
    finally:
        await database.close()


async def test_a_database_that_is_away_is_told_from_a_mistake_of_ours(tmp_path: Path) -> None:
    away = Database(f"sqlite+aiosqlite:///{tmp_path / 'nosuch' / 'away.db'}")
    there = Database(f"sqlite+aiosqlite:///{tmp_path / 'there.db'}")
    try:
        with pytest.raises(OperationalError) as unreachable:
            await away.check()
        shown = failure(unreachable.value)
        assert isinstance(shown, Unavailable)
        assert shown.retry_after is not None
        async with there.session() as session:
            await session.execute(text("CREATE TABLE kept (name TEXT UNIQUE)"))
        with pytest.raises(OperationalError) as misspelt:
            async with there.session() as session:
                await session.execute(text("SELECT * FROM nosuch"))
        assert failure(misspelt.value) is None
        with pytest.raises(IntegrityError) as mistake:
            async with there.session() as session:
                await session.execute(text("INSERT INTO kept VALUES ('a'), ('a')"))
        assert failure(mistake.value) is None
    finally:
        await away.close()
        await there.close()
