"""What handlers ask for: the caller, and the services that `app.py` opened."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from tunesmith_gateway.authentication import caller_of
from tunesmith_gateway.backends.table import BackendTable
from tunesmith_gateway.chat import ChatService
from tunesmith_gateway.disconnect import while_connected
from tunesmith_gateway.documents import DocumentService
from tunesmith_gateway.files import FileService
from tunesmith_gateway.idempotency import IdempotencyService
from tunesmith_gateway.keys import Caller, KeyService
from tunesmith_gateway.limits import GenerationQueue, Limiter
from tunesmith_gateway.measures import Measure
from tunesmith_gateway.models import ModelService
from tunesmith_gateway.sessions import SessionService
from tunesmith_gateway.settings import GatewaySettings
from tunesmith_gateway.upstream import Upstream
from tunesmith_gateway.usage import spending
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


_CHAT = frozenset(("chat", "admin"))
_HELD = "tunesmith.held"


async def _generating(request: Request) -> AsyncIterator[Caller]:
    """Give the caller a place among the running generations, until the answer is sent.

    One dependency, not a chain of them: the framework's way from one to the next costs more than what they do.
    """
    caller = permitted(request, _CHAT)
    services: Services = request.app.state.services
    services.queue.refuse_when_full()  # before a body is read that nobody has room for
    spent, measure = services.limiter.begin(caller.key_id, caller.limits), Measure()
    spending.set(spent)
    try:
        if services.queue.would_wait:
            await request.body()
            await while_connected(request, services.queue.enter())
        else:
            await services.queue.enter()
        measure.begins()
        try:
            yield caller
        finally:
            measure.ended(request.scope, spent)
            services.queue.leave()
            if _HELD in request.scope:
                await request.scope[_HELD].aclose()
    finally:
        services.limiter.end(caller.key_id, spent)


def held(request: Request) -> AsyncExitStack:
    """Return what the handler of a generation holds until its answer is sent, also when that is a stream."""
    stack: AsyncExitStack = request.scope.setdefault(_HELD, AsyncExitStack())
    return stack


Chatter = Annotated[Caller, require("chat")]
Generator = Annotated[Caller, Depends(_generating)]
Reader = Annotated[Caller, require("documents")]
Trainer = Annotated[Caller, require("train")]
Uploader = Annotated[Caller, require("chat", "documents", "train")]
Administrator = Annotated[Caller, require("admin")]
