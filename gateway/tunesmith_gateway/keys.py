"""API keys: made once, shown once, stored hashed, looked up on every request so that a revoked key dies at once.

There is no cache between a key and its row: `Database.glance` is cheap enough, and whatever a process or an operator
commits holds for the next request of every process.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Row, bindparam, or_, select, update
from sqlalchemy.exc import IntegrityError

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Conflict, NotFound, Unauthorized
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import ApiKey

ADMINISTRATOR = "admin"
SCOPES = ("chat", "documents", "train", "admin")

_ALIVE = (
    ApiKey.revoked_at.is_(None),
    or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > bindparam("moment")),
)
_KNOWN = select(ApiKey.id, ApiKey.owner, ApiKey.scopes, ApiKey.limits, ApiKey.secret_sha256).where(
    ApiKey.secret_sha256 == bindparam("wanted"), *_ALIVE
)
_LIMITS = select(ApiKey.limits).where(ApiKey.id == bindparam("key_id"))


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the owner of everything it makes, what its key may do, and the key's own limits."""

    key_id: str
    owner: str
    scopes: frozenset[str]
    limits: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NewKey:
    """What a key is made from. `expires_at` is in seconds since 1970; `limits` is what `limits.overridden` reads."""

    owner: str
    name: str
    scopes: tuple[str, ...] = SCOPES
    expires_at: int | None = None
    limits: dict[str, int] = field(default_factory=dict)


def fingerprint(secret: str) -> str:
    """Return what is stored of a secret. Secrets are random (256 bits), so a plain sha256 cannot be searched."""
    return hashlib.sha256(secret.encode()).hexdigest()


def bearer(authorization: str) -> str:
    """Return the secret of an Authorization header; nothing when it holds none."""
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


class KeyService:
    """Makes, checks, lists and revokes API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._callers: dict[str, tuple[Row[Any], Caller]] = {}

    async def create(self, new: NewKey, secret: str | None = None) -> tuple[ApiKey, str]:
        """Store a key and return its row and its secret; the secret cannot be had again."""
        secret = secret or f"ts-{secrets.token_urlsafe(32)}"
        row = ApiKey(
            id=new_id("key"),
            owner=new.owner,
            name=new.name,
            prefix=secret[:7],
            secret_sha256=fingerprint(secret),
            scopes=list(new.scopes),
            limits=new.limits,
            created_at=now(),
            expires_at=new.expires_at,
        )
        async with self._database.session() as session:
            session.add(row)
        return row, secret

    async def verify(self, secret: str) -> Caller:
        """Return who a key belongs to. Raises `Unauthorized` when it is unknown, expired or revoked."""
        wanted = fingerprint(secret)
        key = await self._database.glance(_KNOWN, {"wanted": wanted, "moment": now()})
        if key is None or not hmac.compare_digest(key.secret_sha256, wanted):
            raise Unauthorized("This API key is unknown, expired or revoked.")
        row, caller = self._callers.get(wanted, (None, None))
        if caller is None or row is not key:  # the database gives the same row while nothing was written
            caller = Caller(key.id, key.owner, frozenset(key.scopes), key.limits)
            self._callers[wanted] = (key, caller)
        return caller

    async def limits(self, key_id: str | None) -> dict[str, int]:
        """Return a key's own limits, of a revoked one, too; none for a key that is not known."""
        found = await self._database.glance(_LIMITS, {"key_id": key_id})
        return dict(found.limits) if found is not None else {}

    async def page(self, owner: str | None, after: str | None, limit: int) -> list[ApiKey]:
        """Return up to `limit` keys of `owner` (of everybody when None), newest first, beginning after `after`."""
        query = select(ApiKey).order_by(ApiKey.id.desc()).limit(limit)
        if owner is not None:
            query = query.where(ApiKey.owner == owner)
        if after is not None:
            query = query.where(ApiKey.id < after)
        async with self._database.session() as session:
            return list(await session.scalars(query))

    async def revoke(self, key_id: str) -> None:
        """End a key; revoking it again changes nothing.

        Raises `NotFound`, and `Conflict` for the last key of an administrator that works, since nobody could make
        another one then.
        """
        async with self._database.session() as session:
            # Written before anything is read: two revocations at once are one after the other on every database.
            touched = update(ApiKey).where(ApiKey.revoked_at.is_(None)).values(revoked_at=None)
            await session.execute(touched)
            row = await session.get(ApiKey, key_id)
            if row is None:
                raise NotFound(f"There is no API key '{key_id}'.", param="key_id")
            alive = (await session.scalars(select(ApiKey).where(*_ALIVE), {"moment": now()})).all()
            administrators = [key.id for key in alive if "admin" in key.scopes]
            if administrators == [key_id]:
                raise Conflict("This is the last key of an administrator. Make another one before you revoke it.")
            row.revoked_at = row.revoked_at or now()

    async def ensure_administrator(self, configured: str, file: Path) -> None:
        """Make sure that there is a first key: the configured one, or one that is made and kept in `file`."""
        async with self._database.session() as session:
            known = set(await session.scalars(select(ApiKey.secret_sha256)))
        if configured:
            if fingerprint(configured) not in known:
                await self._add_configured(configured)
        elif not known:
            _, secret = await self.create(NewKey(ADMINISTRATOR, "first key"))
            _write_secret(file, secret)

    async def _add_configured(self, secret: str) -> None:
        try:
            await self.create(NewKey(ADMINISTRATOR, "configured key"), secret)
        except IntegrityError:  # another process of this gateway was faster
            return


def _write_secret(file: Path, secret: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.touch(mode=0o600)
    file.write_text(secret)
