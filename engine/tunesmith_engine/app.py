"""The engine's application: what is opened at the start and closed at the end."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse

from tunesmith_engine.adapters import with_siblings
from tunesmith_engine.endpoints import native_completions, native_models, openai_routes
from tunesmith_engine.inference import Inference
from tunesmith_engine.llama_server import Servers, choose, version
from tunesmith_engine.models import Catalog
from tunesmith_engine.process import LIBRARY, ModelProcess, own_server
from tunesmith_engine.pull import Puller
from tunesmith_engine.push import Pusher
from tunesmith_engine.quantise import quantiser
from tunesmith_engine.registry import Registries
from tunesmith_engine.residency import Limits
from tunesmith_engine.scheduler import Scheduler
from tunesmith_engine.seed import seed_store
from tunesmith_engine.settings import EngineSettings
from tunesmith_engine.specification import Specification
from tunesmith_shared.app import create_service
from tunesmith_shared.errors import TunesmithError
from tunesmith_shared.store import ModelStore

# Seeding takes some two seconds; requests may come before a slow disk has finished.
_SEED_WAIT_SECONDS = 2.0

_logger = logging.getLogger("tunesmith.engine")
_root = APIRouter()


@_root.get("/", response_class=PlainTextResponse)
@_root.head("/", response_class=PlainTextResponse)
async def running() -> str:
    """What Ollama answers here; clients use it to see whether it is there."""
    return "Ollama is running"


def create_app(settings: EngineSettings) -> FastAPI:
    """The application for these settings."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = ModelStore(settings.models_path)
        limits = Limits(settings.engine_memory_bytes, settings.engine_max_models)
        scheduler = Scheduler(
            limits,
            max_waiting=settings.engine_max_queue,
            load_seconds=settings.engine_load_seconds,
            new_process=functools.partial(_new_process, await asyncio.to_thread(_servers, settings)),
            widen=functools.partial(with_siblings, store),
        )
        app.state.inference = Inference(settings, Catalog(store), scheduler)
        registries = Registries(settings.registry_hosts)
        app.state.quantiser = functools.partial(quantiser, settings)
        app.state.puller = Puller(store, registries)
        app.state.pusher = Pusher(store, registries)
        preparation = asyncio.create_task(asyncio.to_thread(_prepare_store, store, settings))
        await asyncio.wait({preparation}, timeout=_SEED_WAIT_SECONDS)
        try:
            yield
        finally:
            await scheduler.close()
            await registries.close()
            await preparation

    routers = [_root, native_models.router, native_completions.router, openai_routes.router]
    return create_service("Tunesmith engine", settings, lifespan, routers, checks={})


def _servers(settings: EngineSettings) -> Servers:
    """What the models run in; says so in the log."""
    servers = choose(settings.engine_llama_server, settings.cache_dir)
    if servers.usual is None:
        _logger.info("models run in the library of the wheel")
    else:
        _logger.info("models run in %s (%s)", servers.usual, version(servers.usual))
    if servers.bfloat16 is not None:
        _logger.info("models in bfloat16 run in %s", servers.bfloat16)
    return servers


def _new_process(servers: Servers, specification: Specification) -> ModelProcess:
    binary = servers.of(specification)
    return ModelProcess(specification, LIBRARY if binary is None else own_server(binary))


def _prepare_store(store: ModelStore, settings: EngineSettings) -> None:
    """Prune and seed; a failure is logged, and the engine serves what is there."""
    try:
        if settings.engine_prune:
            store.prune()
        if settings.engine_seed:
            seed_store(store, settings.first_model_type)
    except (TunesmithError, OSError, ValueError):
        _logger.exception("the model store could not be prepared; the next start tries again")
