"""Conversations that are kept: messages by session id, each owner's own."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import BadRequest, Conflict, NotFound, TooManyRequests
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import Message, Session

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


_MOST_WAITING = 16
_ATTEMPTS = 5


@dataclass(frozen=True)
class Said:
    """A message to store; `tokens` is what it takes in a prompt, where that is known."""

    role: str
    content: str
    tokens: int | None = None


class SessionService:
    """Stores and gives back the turns of a session. A session begins with its first message."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def turn(self, owner: str, session_id: str) -> AsyncIterator[None]:
        """Hold the session for one turn: the turns of this process come one after the other, in order.

        Raises `TooManyRequests` when too many wait already.
        """
        lock, waiting = self._turns.get((owner, session_id), (asyncio.Lock(), 0))
        if waiting > _MOST_WAITING:
            raise TooManyRequests(
                f"{_MOST_WAITING} requests of the session '{session_id}' are waiting for their turn already.",
                param="session_id",
                retry_after=5,
            )
        self._turns[owner, session_id] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            _, left = self._turns.pop((owner, session_id))
            if left > 1:
                self._turns[owner, session_id] = (lock, left - 1)

    async def history(self, owner: str, session_id: str) -> list[Message]:
        """Return the session's messages, oldest first; none for a session that has not begun."""
        mine = (Message.owner == owner, Message.session_id == session_id)
        async with self._database.session() as session:
            return list(await session.scalars(select(Message).where(*mine).order_by(Message.position)))

    async def append(self, owner: str, session_id: str, model: str, said: list[Said]) -> None:
        """Store `said` at the end of the session, all or none of it, and nothing of another turn in between."""
        for _ in range(_ATTEMPTS):
            try:
                return await self._append(owner, session_id, model, said)
            except IntegrityError:  # another process began the session at the same moment
                continue
        raise Conflict(f"The session '{session_id}' is written from too many places at once.", param="session_id")

    async def _append(self, owner: str, session_id: str, model: str, said: list[Said]) -> None:
        mine = (Message.owner == owner, Message.session_id == session_id)
        used = update(Session).where(Session.owner == owner, Session.id == session_id)
        async with self._database.session() as session:
            # The session's row first: who holds it numbers the messages, the others wait.
            row = await session.execute(used.values(model=model, updated_at=now()).returning(Session.id))
            if row.first() is None:
                session.add(Session(id=session_id, owner=owner, model=model, created_at=now(), updated_at=now()))
                await session.flush()
            last = await session.scalar(select(func.max(Message.position)).where(*mine))
            session.add_all(
                Message(
                    id=new_id("msg"),
                    owner=owner,
                    session_id=session_id,
                    position=position,
                    role=one.role,
                    content=one.content,
                    tokens=one.tokens,
                    created_at=now(),
                )
                for position, one in enumerate(said, 0 if last is None else last + 1)
            )

    async def page(self, owner: str, after: str | None, limit: int) -> list[Session]:
        """Return up to `limit` sessions, the last used first, beginning after the session `after`.

        Raises `NotFound` for an `after` that is not there.
        """
        query = select(Session).where(Session.owner == owner).order_by(Session.updated_at.desc(), Session.id)
        if after is not None:
            last = await self.get(owner, after)
            older = Session.updated_at < last.updated_at
            query = query.where(or_(older, and_(Session.updated_at == last.updated_at, Session.id > last.id)))
        async with self._database.session() as session:
            return list(await session.scalars(query.limit(limit)))

    async def get(self, owner: str, session_id: str) -> Session:
        """Return one session. Raises `NotFound`."""
        async with self._database.session() as session:
            row = await session.scalar(select(Session).where(Session.owner == owner, Session.id == session_id))
        if row is None:
            raise NotFound(f"There is no session '{session_id}'.", param="session_id")
        return row

    async def clear(self, owner: str, session_id: str) -> int:
        """Remove a session and return how many messages it had. Raises `NotFound`."""
        await self.get(owner, session_id)
        mine = (Message.owner == owner, Message.session_id == session_id)
        async with self._database.session() as session:
            count = await session.scalar(select(func.count()).select_from(Message).where(*mine))
            await session.execute(delete(Message).where(*mine))
            await session.execute(delete(Session).where(Session.owner == owner, Session.id == session_id))
        return count or 0


def checked_session_id(session_id: str | None) -> str:
    """Return a usable session id: the given one, or a new one. Raises `BadRequest` for one that is no name."""
    if session_id is None:
        return new_id("session")
    if not isinstance(session_id, str) or not _ID.fullmatch(session_id):
        raise BadRequest(
            "A session id has up to 128 letters, digits, '.', '_' and '-', and starts with a letter or digit.",
            param="session_id",
        )
    return session_id
