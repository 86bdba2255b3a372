"""The routes that generate, and the short way to them: past the framework's router, found in a table.

A framework that looks for a route among all, and then for what its handler wants filled in, takes more of the processor
than everything that the gateway itself does for a relayed answer. What these handlers want is always the same, so they
get it here. They stand in the framework's routers all the same, which describe them.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith_gateway.dependencies import Services
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.places import Place
from tunesmith_shared.middleware import ANSWERING

Handler = Callable[[Request, Services, Caller], Awaitable[Response]]
ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


class Generates:
    """The decorator of a handler that generates: called when its request has a place, kept until the answer is sent."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.__name__, self.__doc__ = handler.__name__, handler.__doc__

    async def __call__(self, _request: Request) -> Response:
        """Return the answer as the framework wants one, with everything still to be done when it is sent."""
        return _Sent(self)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises what the handler raises, and `TunesmithError` for one that has no place."""
        request = Request(scope, receive)
        async with Place(request) as caller:
            response = await self._handler(request, scope["app"].state.services, caller)
            await response(scope, receive, send)


class _Sent(Response):
    def __init__(self, endpoint: Generates) -> None:
        super().__init__()
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint.serve(scope, receive, send)


class GenerationRoutes:
    """The middleware that serves the generating routes among those of `routers`, their errors shown by `handlers`.

    Everything else goes on to the framework.
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter], handlers: Mapping[Any, Any]) -> None:
        self.app = app
        routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
        self._routes = {each.path: (each, each.endpoint) for each in routes if isinstance(each.endpoint, Generates)}
        # What nobody expected is shown further outside, as it is for every route.
        self._handlers: dict[Any, ErrorHandler] = {
            kind: show for kind, show in handlers.items() if kind is not Exception
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope."""
        found = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        scope["route"], endpoint = found
        try:
            await endpoint.serve(scope, receive, send)
        except Exception as error:
            show = next((self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers), None)
            if show is None or ANSWERING in scope:
                raise
            response = await show(Request(scope, receive), error)
            await response(scope, receive, send)
