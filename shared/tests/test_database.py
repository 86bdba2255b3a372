from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, bindparam, select

from tunesmith_shared.database import Database
from tunesmith_shared.tables import Base, Model

ROW = {"name": "m:latest", "owner": "alice", "base_model": "b:latest", "created_at": 1}


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


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
