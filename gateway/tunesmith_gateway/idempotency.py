"""`Idempotency-Key`: a creating request that is sent again gets the answer of the first one, and nothing is made twice.

The first request takes the key in the database and its body is hashed while the handler reads it, so an upload is
neither held nor read twice. A successful answer is kept for a day; a refusal gives the key back, since nothing was
made. A request that broke off, or whose gateway died, may have made something: its key stays taken, and the answer
says so; except where the service behind knows the keys too, and answers a second request with what the first one made.
"""

import hashlib
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Conflict
from tunesmith_shared.tables import IdempotentRequest

_KEPT_SECONDS = 24 * 3600
_RETRY_SECONDS = 2


@dataclass(frozen=True)
class KeptAnswer:
    """A whole answer, and the hash of the request that it answers."""

    request_sha256: str
    status: int
    content_type: str
    body: str


class RequestDigest:
    """The sha256 of a request, taken while its body passes.

    A multipart boundary, which each sending draws anew, counts as nothing.
    """

    def __init__(self, method: str, path: str, content_type: str) -> None:
        self._hash = hashlib.sha256(f"{method} {path}\n".encode())
        self._boundary = _boundary(content_type)
        self._rest = b""

    def add(self, chunk: bytes) -> None:
        """Take in more of the body."""
        if not self._boundary:
            self._hash.update(chunk)
            return
        *whole, last = (self._rest + chunk).split(self._boundary)
        for part in whole:
            self._hash.update(part)
        held = len(self._boundary) - 1  # the beginning of a boundary may be here, its end in the next chunk
        self._hash.update(last[: len(last) - held] if len(last) > held else b"")
        self._rest = last[len(last) - held :] if len(last) > held else last

    def result(self) -> str:
        """Return the hash in hexadecimal; nothing may be added afterwards."""
        self._hash.update(self._rest)
        return self._hash.hexdigest()


class IdempotencyService:
    """Keeps, for each owner, the keys of creating requests and their answers."""

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self._holder = holder

    async def take(self, owner: str, key: str) -> KeptAnswer | None:
        """Take `key` for a request that begins, or return the answer of an earlier one.

        Raises `Conflict` while another request has it, or when the gateway ended in the middle of one.
        """
        values = {"owner": owner, "key": key, "holder": self._holder, "interrupted": False, "created_at": now()}
        try:
            async with self._database.session() as session:
                stale = IdempotentRequest.created_at < now() - _KEPT_SECONDS
                await session.execute(delete(IdempotentRequest).where(stale))
                await session.execute(insert(IdempotentRequest).values(values))
        except IntegrityError:
            return await self._earlier(owner, key)
        return None

    async def take_over(self, owner: str, key: str) -> bool:
        """Take the key of a request that broke off, for its repetition; gives False when no such request had it."""
        broken = (*_named(owner, key), IdempotentRequest.interrupted.is_(True))
        values = {"holder": self._holder, "interrupted": False}
        async with self._database.session() as session:
            result = await session.execute(
                update(IdempotentRequest).where(*broken).values(values).returning(IdempotentRequest.key)
            )
            return result.first() is not None

    async def keep(self, owner: str, key: str, answer: KeptAnswer) -> None:
        """Store the answer of the request that took `key`."""
        async with self._database.session() as session:
            await session.execute(update(IdempotentRequest).where(*_named(owner, key)).values(answer.__dict__))

    async def give_back(self, owner: str, key: str) -> None:
        """Free `key`: its request was refused, and made nothing."""
        async with self._database.session() as session:
            await session.execute(delete(IdempotentRequest).where(*_named(owner, key)))

    async def interrupt(self, owner: str, key: str) -> None:
        """Remember that the request that took `key` broke off: it may have made something."""
        async with self._database.session() as session:
            await session.execute(update(IdempotentRequest).where(*_named(owner, key)).values(interrupted=True))

    async def mark_interrupted(self) -> None:
        """At the start: the requests that this instance left without an answer were cut off."""
        left = (IdempotentRequest.holder == self._holder, IdempotentRequest.status.is_(None))
        async with self._database.session() as session:
            await session.execute(update(IdempotentRequest).where(*left).values(interrupted=True))

    async def _earlier(self, owner: str, key: str) -> KeptAnswer | None:
        async with self._database.session() as session:
            row = await session.scalar(select(IdempotentRequest).where(*_named(owner, key)))
        if row is not None and row.status is not None:
            return KeptAnswer(row.request_sha256 or "", row.status, row.content_type or "", row.body or "")
        if row is not None and row.interrupted:
            raise Conflict(
                "The first request with this Idempotency-Key broke off. Look whether what it was to make is there; if "
                "not, send the request with a new key.",
                param="Idempotency-Key",
                code="idempotency_interrupted",
            )
        raise Conflict(
            "A request with this Idempotency-Key is in progress. Send it again when that one has ended.",
            param="Idempotency-Key",
            code="idempotency_in_progress",
            retry_after=_RETRY_SECONDS,
        )


def _named(owner: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return (IdempotentRequest.owner == owner, IdempotentRequest.key == key)


def _boundary(content_type: str) -> bytes:
    kind, _, parameters = content_type.partition(";")
    if not kind.strip().lower().startswith("multipart/"):
        return b""
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary":
            return value.strip('"').encode()
    return b""
