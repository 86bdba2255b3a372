"""The middleware that asks for the API key before anything else happens: no route, body or unknown path comes first.

In plain ASGI and ahead of the routes, since a framework that fills in a handler's arguments reads the body before it
looks at the key: whoever has none could fill the disk with uploads.
"""

from sqlalchemy.exc import DBAPIError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith_gateway.keys import Caller, KeyService, bearer
from tunesmith_gateway.limits import Limiter
from tunesmith_shared.database import failure
from tunesmith_shared.errors import TunesmithError, Unauthorized, render

OPEN_PATHS = frozenset(("/health", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"))
"""What anybody may read: the state of the services, and the description of the routes."""

_CALLER = "tunesmith.caller"


class Authenticate:
    """Notes the caller in the scope and counts the request; answers 401 (429) by itself otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; anything but HTTP, and open paths, pass through."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        try:
            scope[_CALLER] = await _identified(scope)
        except (TunesmithError, DBAPIError) as error:
            shown = failure(error) if isinstance(error, DBAPIError) else error
            if shown is None:
                raise
            status, body, headers = render(shown, scope["path"])
            await JSONResponse(body, status_code=status, headers=headers)(scope, receive, send)
            return
        await self.app(scope, receive, send)


async def _identified(scope: Scope) -> Caller:
    shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    secret = bearer(shown.decode("latin-1"))
    if not secret:
        raise Unauthorized("An API key is needed: send it as 'Authorization: Bearer <key>'.")
    services = scope["app"].state.services
    keys: KeyService = services.keys
    limiter: Limiter = services.limiter
    caller = await keys.verify(secret)
    limiter.count_request(caller.key_id, caller.limits)
    return caller


def caller_of(scope: Scope) -> Caller:
    """Return who sent the request of `scope`, which `Authenticate` has let in."""
    caller: Caller = scope[_CALLER]
    return caller
