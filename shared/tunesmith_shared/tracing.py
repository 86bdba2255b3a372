"""OpenTelemetry traces, sent over OTLP/HTTP when a collector is configured, and nothing at all otherwise.

A request is a span in every service that it passes, tied together by W3C's `traceparent` header
(https://www.w3.org/TR/trace-context/). Spans have routes, statuses, names of services and counts; never what anybody
wrote, and no keys. The framework's own instrumentation stays off: it would record messages of exceptions.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from opentelemetry import context as current
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, TracerProvider, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunesmith_shared.logs import request_id
from tunesmith_shared.settings import ServiceSettings

Values = Mapping[str, str | int | float]

FIRST_TOKEN = "first token"  # noqa: S105 - an event's name
FIRST_BYTE = "first byte"
_STREAMS = (b"text/event-stream", b"application/x-ndjson")
_POLLED = ("/health", "/metrics", "/api/version")
_TRACER = "tunesmith"

_propagator = TraceContextTextMapPropagator()


@dataclass
class _State:
    """Where spans go in this process; nowhere until `configure`."""

    provider: TracerProvider | None = None


_state = _State()


def configure(settings: ServiceSettings, service: str) -> bool:
    """Begin to trace when a collector is configured, and return whether one is. `service` is this one's name."""
    if not settings.otel_endpoint:
        return False
    # Only now: what is off need not be loaded.
    from tunesmith_shared.tracing_export import provider  # noqa: PLC0415

    _state.provider = provider(settings, service)
    return True


class Trace:
    """The middleware that makes each request a span, below the caller's when that sent a `traceparent`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; anything but HTTP, and what is polled, passes through."""
        if scope["type"] != "http" or scope["path"] in _POLLED:
            await self.app(scope, receive, send)
            return
        headers = {name: value for name, value in Headers(scope=scope).items() if name.startswith("trace")}
        with span(scope["method"], {"http.request.method": scope["method"]}, headers) as request:
            streams = False

            async def send_traced(message: Message) -> None:
                nonlocal streams
                if message["type"] == "http.response.start":
                    _describe(request, scope, message["status"])
                    streams = any(value.startswith(_STREAMS) for _, value in message.get("headers", ()))
                elif streams and message.get("body"):
                    request.add_event(FIRST_TOKEN)
                    streams = False
                await send(message)

            await self.app(scope, receive, send_traced)


def _describe(request: Span, scope: Scope, status: int) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    request.update_name(f"{scope['method']} {route}")
    values = {"http.route": route, "http.response.status_code": status, "tunesmith.request_id": request_id.get()}
    request.set_attributes(values)
    if status >= 500:
        request.set_status(StatusCode.ERROR)


@contextmanager
def span(name: str, values: Values, parent: Mapping[str, str] | None = None) -> Iterator[Span]:
    """Be inside a span for the time of the block: a server's below `parent`'s headers, or one of our own work.

    When tracing is off it is a span that keeps nothing.
    """
    if _state.provider is None:
        yield INVALID_SPAN
        return
    above = _propagator.extract(parent) if parent is not None else None
    one = _started(name, SpanKind.INTERNAL if parent is None else SpanKind.SERVER, values, above)
    token = current.attach(set_span_in_context(one))
    try:
        yield one
    except Exception as error:
        one.set_status(StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        current.detach(token)
        one.end()


def call(name: str, values: Values, headers: MutableMapping[str, str]) -> Span | None:
    """Begin the span of a call to another service and put it into the `headers` of the call; None when tracing is off.

    Whoever called ends it when the answer is whole or given up.
    """
    if _state.provider is None:
        return None
    one = _started(name, SpanKind.CLIENT, values, None)
    _propagator.inject(headers, set_span_in_context(one))
    return one


def http_hooks() -> dict[str, Any]:
    """Return the argument for an httpx client (also inside Ollama's) that hands traces on; none when tracing is off."""
    return {} if _state.provider is None else {"event_hooks": {"request": [_hand_on]}}


async def _hand_on(request: httpx.Request) -> None:
    _propagator.inject(request.headers)


def _started(name: str, kind: SpanKind, values: Values, above: Context | None) -> Span:
    assert _state.provider is not None  # noqa: S101 - asked by everyone who comes here
    tracer = _state.provider.get_tracer(_TRACER)
    return tracer.start_span(name, context=above, kind=kind, attributes=dict(values))
