"""`create_service`: what every service's application has; `serve`: how every service runs."""

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import FrameType

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from tunesmith_shared import __version__, logs, tracing
from tunesmith_shared.database import failure
from tunesmith_shared.drain import Drain, OpenRequests
from tunesmith_shared.errors import BadRequest, TunesmithError, render
from tunesmith_shared.joined_writes import JoinedWrites
from tunesmith_shared.middleware import Observe
from tunesmith_shared.settings import ServiceSettings
from tunesmith_shared.tracing import Trace

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
Check = Callable[[FastAPI], Awaitable[object]]
"""Raises (best a `TunesmithError`, whose message is shown) when the dependency cannot be used now."""

CHECK_SECONDS = 5.0
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}
"""Of the framework: ours is `tracing`, `/metrics` and the logs."""
_CLOSE_SECONDS = 2  # for connections whose requests have ended

_logger = logging.getLogger("tunesmith.app")


def create_service(
    title: str,
    settings: ServiceSettings,
    lifespan: Lifespan,
    routers: Iterable[APIRouter],
    *,
    checks: Mapping[str, Check],
    details: Mapping[str, Check] | None = None,
    middleware: Sequence[Middleware] = (),
) -> FastAPI:
    """Return an application with `routers`, `/health`, `/metrics`, request ids, logs, and errors in the public shapes.

    Every one of `checks` must succeed for `/health` to be well; `details` are shown beside them and decide nothing.
    `middleware` is the service's own, outermost first; request ids and logs are around it.
    `app.state.settings` holds the settings; `lifespan` puts what it opens on `app.state` too and closes it in order.
    """
    app = _Service(title=title, version=__version__, lifespan=lifespan, telemetry=_NO_TELEMETRY)
    app.state.settings = settings
    app.state.draining = False
    app.state.open_requests = OpenRequests()
    traced = [Middleware(Trace)] if tracing.configure(settings, title.removeprefix("Tunesmith ")) else []
    app.user_middleware = [Middleware(Observe), *traced, Middleware(Drain), *middleware]
    app.add_exception_handler(TunesmithError, _show_error)
    app.add_exception_handler(RequestValidationError, _show_validation)
    app.add_exception_handler(HTTPException, _show_http_exception)
    app.add_exception_handler(DBAPIError, _show_database_error)
    app.add_exception_handler(Exception, _show_unexpected)
    app.include_router(_operations(checks, details or {}))
    for router in routers:
        app.include_router(router)
    return app


class _Service(FastAPI):
    """An application whose own middleware stands before the framework's, where what it answers itself never comes."""

    def build_middleware_stack(self) -> ASGIApp:
        own, self.user_middleware = self.user_middleware, []
        stack = super().build_middleware_stack()
        self.user_middleware = own
        for middleware, arguments, named in reversed(own):
            stack = middleware(stack, *arguments, **named)
        return stack


def serve(app: FastAPI, host: str, port: int) -> None:
    """Run `app` until SIGTERM or SIGINT, then let open requests go on for `drain_seconds` at the most.

    A second SIGINT ends it at once. What was imported until now is left out of garbage collection for good.
    """
    settings: ServiceSettings = app.state.settings
    logs.configure(settings.log_level, settings.log_format)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=JoinedWrites,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who asked or by which scheme
        timeout_graceful_shutdown=_CLOSE_SECONDS,
        timeout_keep_alive=65,
    )
    server = _Server(config, app)
    gc.freeze()
    gc.enable()
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(f"{app.title} did not start; the line above says why.")


class _Server(uvicorn.Server):
    """Uvicorn, which drains the application from the moment of the signal and closes its listeners afterwards."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self._app.state.open_requests.hurry = True
        self._app.state.draining = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        settings: ServiceSettings = self._app.state.settings
        await self._app.state.open_requests.wait(settings.drain_seconds)
        await self._app.state.open_requests.end()
        await super().shutdown(sockets)


def _operations(checks: Mapping[str, Check], details: Mapping[str, Check]) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/health")
    async def health(request: Request) -> JSONResponse:
        """Say whether this service can serve: 200 when every dependency answers, 503 otherwise or while stopping."""
        shown = {**checks, **details}
        outcomes = await asyncio.gather(*(_run_check(request.app, check) for check in shown.values()))
        states = dict(zip(shown, outcomes, strict=True))
        well = all(states[name] == "OK" for name in checks) and not request.app.state.draining
        status = "OK" if well else "STOPPING" if request.app.state.draining else "UNAVAILABLE"
        return JSONResponse({"status": status, "dependencies": states}, status_code=200 if well else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        """Give Prometheus what this process counted."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _run_check(app: FastAPI, check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check(app)
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except Exception as error:  # whatever is wrong with a dependency is its state, not this route's failure
        return str(error) or type(error).__name__
    return "OK"


def _respond(request: Request, error: TunesmithError) -> JSONResponse:
    status, body, headers = render(error, request.url.path)
    return JSONResponse(body, status_code=status, headers=headers)


async def _show_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TunesmithError)  # noqa: S101 - registered for this class alone
    if error.status >= 500:
        _logger.warning("%s", error.message, exc_info=error.__cause__)
    return _respond(request, error)


async def _show_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class alone
    sentences = []
    for mistake in error.errors():
        place = ".".join(str(part) for part in mistake["loc"] if part not in ("body", "query", "path", "header"))
        sentences.append(f"{place}: {mistake['msg']}" if place else str(mistake["msg"]))
    first = error.errors()[0]["loc"][-1] if error.errors() else None
    return _respond(request, BadRequest("; ".join(sentences), param=str(first) if first is not None else None))


async def _show_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class alone
    messages = {
        404: f"There is no route {request.method} {request.url.path}.",
        405: f"{request.url.path} does not take {request.method}.",
    }
    shown = _Routing(messages.get(error.status_code, str(error.detail)))
    status, body, _ = render(shown, request.url.path)
    return JSONResponse(body, status_code=error.status_code or status, headers=dict(error.headers or {}))


class _Routing(BadRequest):
    """What the framework itself refuses: an unknown route, a wrong method, a body that is no form."""


async def _show_database_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DBAPIError)  # noqa: S101 - registered for this class alone
    known = failure(error)
    if known is None:
        return await _show_unexpected(request, error)
    _logger.warning("%s", known.message, exc_info=error)
    return _respond(request, known)


async def _show_unexpected(request: Request, error: Exception) -> Response:
    _logger.error("unexpected error", exc_info=error)
    identifier = logs.request_id.get()
    message = f"Something went wrong on our side. The log has more under request id {identifier}."
    return _respond(request, TunesmithError(message, code="internal_error"))
