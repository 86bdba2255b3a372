"""The gateway's application: what is opened, in order, and the routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tunesmith_gateway.authentication import Authenticate
from tunesmith_gateway.backends.table import BackendTable
from tunesmith_gateway.batches.admission import Admission
from tunesmith_gateway.batches.answering import LineAnswerer
from tunesmith_gateway.batches.checking import InputChecker
from tunesmith_gateway.batches.repository import BatchRepository
from tunesmith_gateway.batches.runner import BatchRunner
from tunesmith_gateway.batches.service import BatchService
from tunesmith_gateway.batches.writing import ResultWriter
from tunesmith_gateway.body_limit import BodyLimit
from tunesmith_gateway.chat import ChatService
from tunesmith_gateway.dependencies import Services
from tunesmith_gateway.documents import DocumentService
from tunesmith_gateway.endpoints import (
    api_keys,
    forwarded,
    ollama,
    openai_batches,
    openai_chat,
    openai_files,
    openai_models,
    plain_chat,
    plain_documents,
    plain_models,
    plain_sessions,
    plain_training,
    unattended,
)
from tunesmith_gateway.files import FileService
from tunesmith_gateway.generation_routes import GenerationRoutes
from tunesmith_gateway.idempotency import IdempotencyService
from tunesmith_gateway.idempotent_routes import IdempotentRoutes
from tunesmith_gateway.keys import KeyService
from tunesmith_gateway.limits import GenerationQueue, Limiter, Limits
from tunesmith_gateway.models import ModelService
from tunesmith_gateway.plain_paths import PlainPaths
from tunesmith_gateway.sessions import SessionService
from tunesmith_gateway.settings import GatewaySettings
from tunesmith_gateway.upstream import Timeouts, Upstream
from tunesmith_shared.app import create_service
from tunesmith_shared.auth import service_headers
from tunesmith_shared.database import Database
from tunesmith_shared.files import FileStore

_MIB = 2**20
_ENDPOINTS = (
    openai_chat,
    openai_models,
    openai_files,
    openai_batches,
    forwarded,
    ollama,
    plain_chat,
    plain_sessions,
    plain_models,
    plain_documents,
    plain_training,
    api_keys,
)


def create_app(settings: GatewaySettings) -> FastAPI:
    """Return the gateway. It opens nothing before it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = Database(settings.database_url)
        async with _session() as session:
            app.state.services = _services(settings, database, session)
            key = settings.api_key.get_secret_value()
            await app.state.services.idempotency.mark_interrupted()
            await app.state.services.keys.ensure_administrator(key, settings.api_key_file)
            runner = _batch_runner(app.state.services)
            app.state.batches = BatchService(BatchRepository(database), app.state.services.files, runner)
            backends = app.state.services.backends
            async with backends.watched(settings.backend_check_seconds), runner.running():
                yield
        await database.close()

    app = create_service(
        "Tunesmith gateway",
        settings,
        lifespan,
        [module.router for module in _ENDPOINTS],
        checks={
            "database": lambda app: app.state.services.database.check(),
            "model server": lambda app: app.state.services.backends.check(),
            "rag-service": lambda app: app.state.services.rag.check("/health"),
            "finetune-worker": lambda app: app.state.services.worker.check("/health"),
        },
        details={row.title: partial(_check_backend, row.name) for row in settings.backends},
        middleware=[
            Middleware(Authenticate),
            Middleware(BodyLimit, limit=settings.body_limit_mb * _MIB, upload_limit=settings.upload_limit_mb * _MIB),
        ],
    )
    app.add_exception_handler(ClientDisconnect, _gone)
    routers = [module.router for module in _ENDPOINTS]
    app.user_middleware += [
        Middleware(GenerationRoutes, routers, app.exception_handlers),
        Middleware(PlainPaths),
        Middleware(IdempotentRoutes),
    ]
    return app


async def _check_backend(name: str, app: FastAPI) -> None:
    await app.state.services.backends.named(name).check()


def _session() -> aiohttp.ClientSession:
    """Return the one pool of connections: without cookies, since its requests are of many people, and uncompressed."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"accept-encoding": "identity"},
        auto_decompress=False,
    )


def _services(settings: GatewaySettings, database: Database, session: aiohttp.ClientSession) -> Services:
    shown = {"authorization": service_headers(settings, "")["authorization"]}
    # What these answer may be silent for long: the events of a training between two steps.
    patience = Timeouts(settings.connect_timeout, settings.first_byte_timeout, settings.first_byte_timeout)
    rag = Upstream("rag-service", settings.rag_url, session, shown, patience)
    worker = Upstream("finetune-worker", settings.worker_url, session, shown, patience)
    backends = BackendTable.of(settings, session)
    files = FileService(database, FileStore(settings.files_path), settings.upload_limit_mb * _MIB)
    models = ModelService(database, backends)
    documents = DocumentService(rag, files)
    sessions = SessionService(database)
    queue = GenerationQueue(settings.running_generations, settings.waiting_generations)
    queue.show()
    limits = Limits(settings.requests_per_minute, settings.tokens_per_minute, settings.concurrency)
    return Services(
        settings=settings,
        database=database,
        keys=KeyService(database),
        files=files,
        models=models,
        documents=documents,
        idempotency=IdempotencyService(database, settings.instance),
        limiter=Limiter(limits),
        queue=queue,
        sessions=sessions,
        chat=ChatService(backends, models, sessions, documents),
        backends=backends,
        rag=rag,
        worker=worker,
    )


def _batch_runner(services: Services) -> BatchRunner:
    settings, repository = services.settings, BatchRepository(services.database)
    return BatchRunner(
        f"gateway-{settings.instance}",
        repository,
        InputChecker(repository, services.files, services.models, settings.body_limit_mb * _MIB),
        Admission(services.keys, services.limiter, services.queue),
        LineAnswerer(partial(unattended.answer, services)),
        ResultWriter(repository, FileStore(settings.files_path)),
        settings.batch_concurrency,
    )


async def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody reads this answer: the client left. 499 is what the log shows, as nginx would."""
    return Response(status_code=499)
