"""Conversations that are kept: messages by session id, each owner's own."""

import re

from sqlalchemy import delete, func, select

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import BadRequest, NotFound
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import Message, Session

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class SessionService:
    """Stores and gives back the turns of a session. A session begins with its first message."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def history(self, owner: str, session_id: str) -> list[Message]:
        """Return the session's messages, oldest first; none for a session that has not begun."""
        query = select(Message).where(Message.owner == owner, Message.session_id == session_id).order_by(Message.id)
        async with self._database.session() as session:
            return list(await session.scalars(query))

    async def append(self, owner: str, session_id: str, model: str, turns: list[tuple[str, str]]) -> None:
        """Store `turns` (role, content) at the end of the session, all or none of them."""
        async with self._database.session() as session:
            row = await session.get(Session, (session_id, owner))
            if row is None:
                row = Session(id=session_id, owner=owner, model=model, created_at=now(), updated_at=now())
                session.add(row)
            row.model, row.updated_at = model, now()
            session.add_all(
                Message(
                    id=new_id("msg"), owner=owner, session_id=session_id, role=role, content=content, created_at=now()
                )
                for role, content in turns
            )

    async def recent(self, owner: str) -> list[Session]:
        """Return the owner's sessions, the last used first."""
        query = select(Session).where(Session.owner == owner).order_by(Session.updated_at.desc(), Session.id)
        async with self._database.session() as session:
            return list(await session.scalars(query))

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
    if not _ID.fullmatch(session_id):
        raise BadRequest(
            "A session id has up to 128 letters, digits, '.', '_' and '-', and starts with a letter or digit.",
            param="session_id",
        )
    return session_id
