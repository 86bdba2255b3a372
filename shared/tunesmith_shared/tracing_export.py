"""The way of spans to the collector; loaded only where tracing is on."""

import logging

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from tunesmith_shared import __version__
from tunesmith_shared.settings import ServiceSettings


def provider(settings: ServiceSettings, service: str) -> TracerProvider:
    """Return what makes spans of `service` and sends them, in batches and from a thread, to the collector.

    What is left is sent at the process's end. A collector that is away is logged and costs nothing else.
    """
    name = {"service.name": f"tunesmith-{service}", "service.version": __version__}
    resource = Resource.create({**name, "service.instance.id": settings.instance})
    sampler = ParentBased(TraceIdRatioBased(settings.otel_sample_ratio))
    made = TracerProvider(resource=resource, sampler=sampler)
    exporter = OTLPSpanExporter(f"{settings.otel_endpoint.rstrip('/')}/v1/traces", headers=_headers(settings))
    made.add_span_processor(BatchSpanProcessor(exporter))
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    return made


def _headers(settings: ServiceSettings) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in settings.otel_headers.get_secret_value().split(",") if "=" in pair)
    return {name.strip(): value.strip() for name, _, value in pairs}
