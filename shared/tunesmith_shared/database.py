"""The relational database: one engine a process, one transaction a session."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Executable, Row, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from tunesmith_shared.errors import StorageFull, TunesmithError, Unavailable

_MOST_REMEMBERED = 10_000
_POSTGRESQL_DISK_FULL = "53100"
_SQLITE_AWAY = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR")


class Database:
    """SQLite (write-ahead log) or PostgreSQL behind SQLAlchemy's async API.

    An instance belongs to the event loop in which it is first used.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self._glances = _Glances(self.engine)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Give a session whose transaction commits at the end of the block and rolls back when it raises."""
        async with self._sessions() as session, session.begin():
            yield session

    async def glance(self, query: Executable, values: Mapping[str, object]) -> Row[Any] | None:
        """Return the first row of an indexed `query` as of now, by the shortest way and outside any transaction.

        For what every request asks: SQLite answers in the calling thread, which takes a few microseconds while nothing
        was written and a tenth of a millisecond otherwise, where a session's way through its worker thread takes
        milliseconds; PostgreSQL gets one round trip.
        """
        return await self._glances.first(query, values)

    async def check(self) -> None:
        """Raise when the database does not answer."""
        async with self.engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def close(self) -> None:
        """Close every pooled connection."""
        self._glances.close()
        await self.engine.dispose()


def failure(error: DBAPIError) -> TunesmithError | None:
    """Return what a caller is told of a failed statement: the database is full or away; None when the fault is ours."""
    sqlite, state = getattr(error.orig, "sqlite_errorname", ""), getattr(error.orig, "sqlstate", None) or ""
    if sqlite == "SQLITE_FULL" or state == _POSTGRESQL_DISK_FULL:
        return StorageFull("The disk of the database is full, so nothing was changed. Make room and try again.")
    away = sqlite.startswith(_SQLITE_AWAY) if sqlite else isinstance(error, (OperationalError, InterfaceError))
    if away or error.connection_invalidated:
        return Unavailable("The database cannot be reached just now. Try again soon.", retry_after=2)
    return None


class _Glances:
    """Single rows, read in autocommit mode: each sees what was committed before it.

    SQLite tells by its data version (https://sqlite.org/pragma.html#pragma_data_version) whether anybody, in whatever
    process, has committed since a row was read; the rows of one version are remembered. The version is asked for once
    in a turn of the event loop: whatever asks in that turn came from outside before it began.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._version: object = None
        self._current = False
        self._rows: dict[tuple[object, ...], Row[Any] | None] = {}
        self._remote = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._local: Engine | None = None
        self._connection: Connection | None = None
        self._cursor: Any = None
        if engine.dialect.name == "sqlite":
            url = engine.url.set(drivername="sqlite")
            self._local = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"timeout": 1.0})

    async def first(self, query: Executable, values: Mapping[str, object]) -> Row[Any] | None:
        if self._local is None:
            async with self._remote.connect() as connection:
                row: Row[Any] | None = (await connection.execute(query, values)).first()
                return row
        if self._connection is None:
            self._connection = self._local.connect()
            driver: Any = self._connection.connection.dbapi_connection
            self._cursor = driver.cursor()
        if not self._current:
            self._renew()
        asked = (query, *values.values())
        if asked not in self._rows:
            self._rows[asked] = self._connection.execute(query, values).first()
        return self._rows[asked]

    def _renew(self) -> None:
        version = self._cursor.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self._rows) >= _MOST_REMEMBERED:
            self._version = version
            self._rows.clear()
        self._current = True
        asyncio.get_running_loop().call_soon(self._expire)

    def _expire(self) -> None:
        self._current = False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._local is not None:
            self._local.dispose()


def _engine(url: str) -> AsyncEngine:
    if not url.startswith("sqlite"):
        return create_async_engine(url, pool_pre_ping=True)
    engine = create_async_engine(url)

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=10000")
        cursor.close()

    return engine
