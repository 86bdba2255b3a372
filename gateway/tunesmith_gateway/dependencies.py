"""What handlers ask for: the caller, and the services that `app.py` opened."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from tunesmith_gateway.authentication import caller_of
from tunesmith_gateway.backends.table import BackendTable
from tunesmith_gateway.chat import ChatService
from tunesmith_gateway.documents import DocumentService
from tunesmith_gateway.files import FileService
from tunesmith_gateway.idempotency import IdempotencyService
from tunesmith_gateway.keys import Caller, KeyService
from tunesmith_gateway.limits import GenerationQueue, Limiter
from tunesmith_gateway.models import ModelService
from tunesmith_gateway.sessions import SessionService
from tunesmith_gateway.settings import GatewaySettings
from tunesmith_gateway.upstream import Upstream
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Forbidden


@dataclass(frozen=True)
class Services:
    """Everything that lives as long as the application. `app.py` makes it; `app.state.services` holds it."""

    settings: GatewaySettings
    database: Database
    keys: KeyService
    files: FileService
    models: ModelService
    documents: DocumentService
    idempotency: IdempotencyService
    limiter: Limiter
    queue: GenerationQueue
    sessions: SessionService
    chat: ChatService
    backends: BackendTable
    rag: Upstream
    worker: Upstream


async def _services(request: Request) -> Services:  # async: another function would be called in a thread
    return cast(Services, request.app.state.services)


GatewayServices = Annotated[Services, Depends(_services)]


def permitted(request: Request, scopes: frozenset[str]) -> Caller:
    """Return who sent a request. Raises `Forbidden` when the key has none of `scopes`."""
    caller = caller_of(request.scope)
    if caller.scopes.isdisjoint(scopes):
        needed = " or ".join(f"'{scope}'" for scope in sorted(scopes - {"admin"}) or ["admin"])
        raise Forbidden(f"This needs an API key with the scope {needed}.", code="missing_scope")
    return caller


def require(*scopes: str) -> object:
    """Return a dependency that gives the caller, or refuses a key that has neither one of `scopes` nor `admin`."""
    accepted = frozenset((*scopes, "admin"))

    async def check(request: Request) -> Caller:
        return permitted(request, accepted)

    return Depends(check)


Chatter = Annotated[Caller, require("chat")]
Reader = Annotated[Caller, require("documents")]
Trainer = Annotated[Caller, require("train")]
Uploader = Annotated[Caller, require("chat", "documents", "train")]
Administrator = Annotated[Caller, require("admin")]
