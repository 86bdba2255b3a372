"""Traces of a gateway and a rag-service, as a collector gets them over OTLP/HTTP."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tunesmith_shared.testing import Platform, platform_at

from .scripted import until

MARKER = "vermilion-ocarina"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CHATTED = ("tunesmith-gateway", "POST /v1/chat/completions")
CHAT = {"model": "m", "messages": [{"role": "user", "content": MARKER}]}


@dataclass
class Collector:
    """Stands where an OpenTelemetry collector stands; and where Ollama does, to see what it is shown."""

    url: str = ""
    received: bytes = b""
    shown: list[str | None] = field(default_factory=list)
    spans: list[tuple[str, Span]] = field(default_factory=list)

    async def collect(self, request: web.Request) -> web.Response:
        content = await request.read()
        assert request.headers["x-collector"] == "let-me-in"
        self.received += content
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def tags(self, _request: web.Request) -> web.Response:
        model = {"name": "m:latest", "size": 1, "details": {}, "modified_at": "2026-01-01T00:00:00Z"}
        return web.json_response({"models": [model]})

    async def version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "0.0.0", "extensions": ["truncate"]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.shown.append(request.headers.get("traceparent"))
        if not (await request.json()).get("stream"):
            return web.json_response({"choices": [{"message": {"content": MARKER}}]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"delta": {"content": "' + MARKER.encode() + b'"}}]}\n\n')
        await response.write(b"data: [DONE]\n\n")
        return response

    def span(self, span_id: str) -> Span | None:
        return next((span for _, span in self.spans if span.span_id.hex() == span_id), None)

    def of(self, trace: str) -> dict[tuple[str, str], Span]:
        """The spans of a trace by service and name."""
        return {(service, span.name): span for service, span in self.spans if span.trace_id.hex() == trace}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def collector() -> AsyncIterator[Collector]:
    collector, app = Collector(), web.Application()
    app.router.add_post("/v1/traces", collector.collect)
    app.router.add_get("/api/tags", collector.tags)
    app.router.add_get("/api/version", collector.version)
    app.router.add_post("/v1/chat/completions", collector.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = site.name
    yield collector
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    settings = {
        "TUNESMITH_OLLAMA_HOST": collector.url,
        "TUNESMITH_OTEL_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-collector=let-me-in",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with platform_at(tmp_path_factory.mktemp("traced"), **settings) as platform:
        await asyncio.to_thread(platform.start, "rag", "gateway")
        yield platform


def attributes(span: Span) -> dict[str, object]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


async def test_a_request_is_one_trace_through_every_service(traced: Platform, collector: Collector) -> None:
    headers = {
        "authorization": f"Bearer {traced.key}",
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        "x-request-id": "traced-one",
    }
    async with httpx.AsyncClient(base_url=traced.url, headers=headers, timeout=60) as client:
        assert (await client.post("/v1/chat/completions", json={**CHAT, "stream": True})).status_code == 200
        shown = str(collector.shown[0]).split("-")
        await until(lambda: collector.span(shown[2]), "the call of the backend")
        await until(lambda: CHATTED in collector.of(TRACE), "the request")
        spans = collector.of(TRACE)
        request, backend = spans[CHATTED], collector.span(shown[2])
        assert backend is not None
        assert (request.parent_span_id.hex(), backend.parent_span_id) == (PARENT, request.span_id)
        assert shown[1] == TRACE
        assert [event.name for event in request.events] == ["first token"]
        assert [event.name for event in backend.events] == ["first byte"]
        assert attributes(request)["http.response.status_code"] == 200
        assert attributes(request)["tunesmith.request_id"] == "traced-one"
        assert request.start_time_unix_nano <= backend.start_time_unix_nano < backend.end_time_unix_nano
        store = (await client.post("/v1/vector_stores", json={"name": "traced"})).json()["id"]
        ours, theirs = ("tunesmith-gateway", "call rag-service"), ("tunesmith-rag-service", "POST /v1/vector_stores")
        await until(lambda: {ours, theirs} <= collector.of(TRACE).keys(), "the call and the rag's span")
        spans = collector.of(TRACE)
        assert spans[theirs].parent_span_id == spans[ours].span_id
        await client.post("/v1/chat/completions", json={**CHAT, "vector_store_ids": [store]})
        await until(lambda: ("tunesmith-gateway", "retrieval") in collector.of(TRACE), "the retrieval")
    for secret in (MARKER, traced.key, "let-me-in"):
        assert secret.encode() not in collector.received


async def test_health_is_not_traced_and_a_request_without_a_trace_begins_one(
    traced: Platform, collector: Collector
) -> None:
    before = len(collector.spans)
    async with httpx.AsyncClient(base_url=traced.url, headers={"authorization": f"Bearer {traced.key}"}) as client:
        await client.get("/health")
        await client.get("/sessions")
    await until(lambda: any(span.name == "GET /sessions" for _, span in collector.spans[before:]), "its span")
    names = [span.name for _, span in collector.spans[before:]]
    assert not [name for name in names if "health" in name]
