"""API keys: made once, shown once, stored hashed, looked up on every request so that a revoked key dies at once."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError

from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Unauthorized
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import ApiKey

ADMINISTRATOR = "admin"
SCOPES = ("chat", "documents", "train", "admin")


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the owner of everything it makes, and what its key may do."""

    owner: str
    scopes: frozenset[str]


def fingerprint(secret: str) -> str:
    """Return what is stored of a secret. Secrets are random (256 bits), so a plain sha256 cannot be searched."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyService:
    """Makes and checks API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, owner: str, name: str, secret: str | None = None) -> str:
        """Store a key of `owner` with all scopes and return its secret; the secret cannot be had again."""
        secret = secret or f"ts-{secrets.token_urlsafe(32)}"
        async with self._database.session() as session:
            session.add(
                ApiKey(
                    id=new_id("key"),
                    owner=owner,
                    name=name,
                    prefix=secret[:7],
                    secret_sha256=fingerprint(secret),
                    scopes=list(SCOPES),
                    created_at=now(),
                )
            )
        return secret

    async def verify(self, secret: str) -> Caller:
        """Return who a key belongs to. Raises `Unauthorized` when it is unknown, expired or revoked."""
        wanted = fingerprint(secret)
        alive = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now())
        query = select(ApiKey).where(ApiKey.secret_sha256 == wanted, ApiKey.revoked_at.is_(None), alive)
        async with self._database.session() as session:
            key = await session.scalar(query)
        if key is None or not hmac.compare_digest(key.secret_sha256, wanted):
            raise Unauthorized("This API key is unknown, expired or revoked.")
        return Caller(key.owner, frozenset(key.scopes))

    async def ensure_administrator(self, configured: str, file: Path) -> None:
        """Make sure that there is a first key: the configured one, or one that is made and kept in `file`."""
        async with self._database.session() as session:
            known = set(await session.scalars(select(ApiKey.secret_sha256)))
        if configured:
            if fingerprint(configured) not in known:
                await self._add_configured(configured)
        elif not known:
            _write_secret(file, await self.create(ADMINISTRATOR, "first key"))

    async def _add_configured(self, secret: str) -> None:
        try:
            await self.create(ADMINISTRATOR, "configured key", secret)
        except IntegrityError:  # another process of this gateway was faster
            return


def _write_secret(file: Path, secret: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.touch(mode=0o600)
    file.write_text(secret)
