"""Whether backends answer: asked for in the background, together with their models, and told as metrics."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from prometheus_client import Counter, Gauge

from tunesmith_gateway.backends.protocol import Backend
from tunesmith_gateway.model_names import identity

_LONGEST_CHECK = 5.0

_logger = logging.getLogger("tunesmith.backends")
_healthy = Gauge("tunesmith_backend_healthy", "1 while the backend answers.", ["backend"])
_running = Gauge("tunesmith_backend_requests_running", "Requests open at the backend.", ["backend"])
_models = Gauge("tunesmith_backend_models", "Models that the backend has listed; 0 before it has.", ["backend"])
failovers = Counter("tunesmith_backend_failovers", "Requests that went on to another backend.", ["backend"])


@asynccontextmanager
async def watching(backends: Sequence[Backend], seconds: float) -> AsyncIterator[None]:
    """Check all of `backends` every so many seconds, the first time at once, for as long as the block lasts."""
    for backend in backends:
        _show(backend)
    task = asyncio.create_task(_watch(backends, seconds))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def refresh(backend: Backend) -> None:
    """Ask a backend for its models, and keep them and whether it answered."""
    try:
        async with asyncio.timeout(_LONGEST_CHECK):
            offers = await backend.models()
    except Exception as error:  # whatever is wrong with a backend is its state
        mark(backend, healthy=False, why=str(error) or type(error).__name__)
    else:
        backend.condition.models = frozenset(identity(offer.name) for offer in offers)
        mark(backend, healthy=True)


def mark(backend: Backend, *, healthy: bool, why: str = "") -> None:
    """Keep whether a backend answers, and log it when that is new; services that start together wait for each other."""
    condition = backend.condition
    if condition.healthy and not healthy and condition.answered:
        _logger.warning("the backend '%s' does not answer: %s", backend.row.name, why)
    elif condition.healthy and not healthy:
        _logger.info("waiting for the backend '%s': %s", backend.row.name, why)
    elif healthy and not condition.healthy:
        _logger.info("the backend '%s' answers", backend.row.name)
    condition.healthy = healthy
    condition.answered = condition.answered or healthy


def _show(backend: Backend) -> None:
    name, condition = backend.row.name, backend.condition
    _healthy.labels(name).set_function(lambda: float(condition.healthy))
    _running.labels(name).set_function(lambda: float(condition.running))
    _models.labels(name).set_function(lambda: float(len(condition.models or ())))
    failovers.labels(name)


async def _watch(backends: Sequence[Backend], seconds: float) -> None:
    while True:
        await asyncio.gather(*map(refresh, backends))
        await asyncio.sleep(seconds)
