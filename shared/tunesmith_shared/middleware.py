"""The one middleware: request ids, the access log and metrics, in plain ASGI so that disconnects stay visible."""

import logging
import re
import time
from collections.abc import Awaitable
from functools import cache

from prometheus_client import Counter, Histogram
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_shared.ids import new_id
from tunesmith_shared.logs import request_id, write

REQUEST_ID_HEADER = "x-request-id"
ANSWERING = "tunesmith.answering"
"""In the scope of a request once its answer has begun: an error can no longer be one."""

FIRST_PART = "tunesmith.first_part"
"""When the first part of a streamed answer was sent (time.perf_counter), in the scope of its request."""

_logger = logging.getLogger("tunesmith.access")
_requests = Counter("tunesmith_requests", "Requests answered.", ["method", "route", "status"])
_seconds = Histogram("tunesmith_request_seconds", "Time from a request to the end of its answer.", ["method", "route"])
_STREAMS = (b"text/event-stream", b"application/x-ndjson")
_ID_HEADER = REQUEST_ID_HEADER.encode()
_POLLED = ("/health", "/metrics", "/api/version")
_LEFT = 499
"""What nginx says of an application that ends without an answer: there is nobody left to give one to."""

_CLIENT_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Observe:
    """Gives each request an id (the client's own when it is well-formed), logs and measures its answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI event scope; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        shown = next((value for name, value in scope["headers"] if name == _ID_HEADER), b"")
        identifier = shown.decode() if _CLIENT_ID.fullmatch(shown) else new_id("req")
        request_id.set(identifier)
        status, started, awaited = _LEFT, time.perf_counter(), False

        def send_observed(message: Message) -> Awaitable[None]:
            nonlocal status, awaited
            if awaited and message.get("body"):
                scope[FIRST_PART], awaited = time.perf_counter(), False
            elif message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                awaited = any(value.startswith(_STREAMS) for _, value in headers)
                scope[ANSWERING] = True
                status = message["status"]
                message["headers"] = [*headers, (_ID_HEADER, identifier.encode())]
            return send(message)  # no coroutine of its own: a stream has many parts

        try:
            await self.app(scope, receive, send_observed)
        except Exception as error:
            if status == _LEFT:  # of our own middleware; the framework has shown its handlers' errors
                response = await scope["app"].exception_handlers[Exception](Request(scope, receive), error)
                await response(scope, receive, send_observed)
            raise
        except BaseException:
            status = 500 if status == _LEFT else status
            raise
        finally:
            _record(scope, status, time.perf_counter() - started)


@cache  # bounded as the metrics are: by the routes and their statuses
def _counted(method: str, route: str, status: int) -> Counter:
    return _requests.labels(method, route, str(status))


@cache
def _measured(method: str, route: str) -> Histogram:
    return _seconds.labels(method, route)


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    _counted(scope["method"], route, status).inc()
    _measured(scope["method"], route).observe(seconds)
    level = logging.DEBUG if route in _POLLED else logging.INFO
    values = {"status": status, "ms": round(seconds * 1000, 1), "request": request_id.get()}
    write(_logger, level, f"{scope['method']} {scope['path']}", values)
