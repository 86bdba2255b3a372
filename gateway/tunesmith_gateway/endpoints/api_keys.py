"""API keys over HTTP, for administrators: making them (also for other owners), listing and revoking them."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from tunesmith_gateway.dependencies import Administrator, GatewayServices
from tunesmith_gateway.keys import SCOPES, NewKey
from tunesmith_shared.clock import now
from tunesmith_shared.errors import BadRequest
from tunesmith_shared.schemas.base import Body, Deleted, Page
from tunesmith_shared.tables import ApiKey

router = APIRouter(prefix="/v1/api_keys", tags=["keys"])

Scope = Literal["chat", "documents", "train", "admin"]
Owner = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]


class KeyLimits(Body):
    """What differs from the gateway's settings for one key; 0 is no limit."""

    requests_per_minute: Annotated[int, Field(ge=0)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=0)] | None = None
    concurrency: Annotated[int, Field(ge=0)] | None = None


class KeyCreate(Body):
    """A key to make. Without `owner` it belongs to the caller; without `expires_at` (seconds since 1970) it stays."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    owner: Owner | None = None
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("chat", "documents", "train")
    expires_at: int | None = None
    limits: KeyLimits = KeyLimits()


class KeyObject(Body):
    """A key as listings show it: `prefix` is the beginning of its secret."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    owner: str
    prefix: str
    scopes: list[str]
    limits: dict[str, int]
    status: Literal["active", "expired", "revoked"]
    created_at: int
    expires_at: int | None
    revoked_at: int | None


class CreatedKey(KeyObject):
    """A key that was just made, with its secret, which is shown this once."""

    secret: str


@router.post("")
async def create_key(wanted: KeyCreate, services: GatewayServices, caller: Administrator) -> CreatedKey:
    """Make a key. Its secret is in this answer and nowhere else."""
    if wanted.expires_at is not None and wanted.expires_at <= now():
        raise BadRequest("expires_at is in the past. It is a time in seconds since 1970.", param="expires_at")
    scopes = tuple(scope for scope in SCOPES if scope in wanted.scopes)
    limits = wanted.limits.model_dump(exclude_none=True)
    new = NewKey(wanted.owner or caller.owner, wanted.name, scopes, wanted.expires_at, limits)
    row, secret = await services.keys.create(new)
    return CreatedKey(**_shown(row).model_dump(), secret=secret)


@router.get("")
async def list_keys(
    services: GatewayServices,
    _caller: Administrator,
    owner: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Page[KeyObject]:
    """List the keys of everybody, or of one owner, newest first; revoked and expired ones too."""
    rows = await services.keys.page(owner, after, limit + 1)
    data = [_shown(row) for row in rows[:limit]]
    return Page[KeyObject](
        data=data,
        has_more=len(rows) > limit,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )


@router.delete("/{key_id}")
async def revoke_key(key_id: str, services: GatewayServices, _caller: Administrator) -> Deleted:
    """Revoke a key; the next request with it is refused, wherever it comes in."""
    await services.keys.revoke(key_id)
    return Deleted(id=key_id, object="api_key")


def _shown(row: ApiKey) -> KeyObject:
    expired = row.expires_at is not None and row.expires_at <= now()
    return KeyObject(
        id=row.id,
        name=row.name,
        owner=row.owner,
        prefix=row.prefix,
        scopes=row.scopes,
        limits=row.limits,
        status="revoked" if row.revoked_at is not None else "expired" if expired else "active",
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
