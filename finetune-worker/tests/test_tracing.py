"""Traces of a worker: what it asks of the model server belongs to the request, or the step, that it is asked for."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tunesmith_finetune.testing import CSV, TOKEN, Worker, worker_for
from tunesmith_shared.testing import platform_at, wait_until

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Stands where an OpenTelemetry collector stands; and where Ollama does, to see what it is shown."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.shown: list[str | None] = []
        self.spans: list[Span] = []

    def named(self, name: str) -> Span | None:
        return next((span for span in self.spans if span.name == name), None)


class _Answers(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            self.server.spans += [span for scope in resource.scope_spans for span in scope.spans]
        self._answer("application/x-protobuf", b"")

    def do_GET(self) -> None:
        self.server.shown.append(self.headers["traceparent"])
        self._answer("application/json", b'{"models": []}')

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        yield collector
        collector.shutdown()
        thread.join()


@pytest.fixture
def worker(collector: Collector, tmp_path: Path) -> Iterator[Worker]:
    settings = {
        "TUNESMITH_SERVICE_TOKEN": TOKEN,
        "TUNESMITH_OLLAMA_HOST": collector.url,
        "TUNESMITH_OTEL_ENDPOINT": collector.url,
        "TUNESMITH_WORKER_BUILD_TOOLS": "false",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with platform_at(tmp_path, **settings) as platform, worker_for(platform) as worker:
        platform.start("worker")
        yield worker


def test_a_trace_goes_on_to_the_model_server_and_each_step_is_a_span(worker: Worker, collector: Collector) -> None:
    worker.http.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
    job_id = worker.create(training_file=worker.upload(CSV), model_name="traced").raise_for_status().json()["id"]
    wait_until(lambda: collector.named("POST /v1/fine_tuning/jobs"), 60, "the request's span")
    request = collector.named("POST /v1/fine_tuning/jobs")
    assert request is not None
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert f"00-{TRACE}-{request.span_id.hex()}-01" in collector.shown
    wait_until(lambda: collector.named("step validate"), 60, "the span of a step")
    step = collector.named("step validate")
    assert step is not None
    assert {each.key: each.value.string_value for each in step.attributes} == {"tunesmith.job_id": job_id}
