"""The finetune-worker's application: what it opens, in order, and closes in the opposite one."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI

from tunesmith_finetune import endpoints, workflow
from tunesmith_finetune.base_store import BaseModelStore
from tunesmith_finetune.configured_model import ConfiguredModel, SetupFailed, configured
from tunesmith_finetune.event_repository import EventRepository
from tunesmith_finetune.llama_cpp import Toolbox
from tunesmith_finetune.model_repository import ModelRepository
from tunesmith_finetune.pipeline import Pipeline
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.publish import Publisher
from tunesmith_finetune.repository import JobRepository
from tunesmith_finetune.service import JobService
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_finetune.supervise import supervise
from tunesmith_shared import durable
from tunesmith_shared.app import create_service
from tunesmith_shared.database import Database
from tunesmith_shared.files import FileStore
from tunesmith_shared.store import ModelStore

_logger = logging.getLogger("tunesmith.worker")


def create_app(settings: WorkerSettings) -> FastAPI:
    """Return the application; its lifespan launches the durable workflows and the build of llama.cpp's tools."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            database = Database(settings.database_url)
            stack.push_async_callback(database.close)
            publisher = Publisher(ModelStore(settings.models_path), settings.ollama_host)
            stack.push_async_callback(publisher.close)
            limits = Limits(None, settings.tool_hours * 3600)
            toolbox = Toolbox(settings.cache_dir, settings.llama_cpp_requirements, limits, settings.llama_cpp_dir)
            stack.push_async_callback(toolbox.close)
            pipeline = Pipeline(
                settings=settings,
                jobs=JobRepository(database),
                events=EventRepository(database),
                models=ModelRepository(database),
                files=FileStore(settings.files_path),
                bases=BaseModelStore(
                    settings.cache_dir,
                    limits,
                    settings.base_models_path,
                    settings.allowed_hub_models,
                    settings.first_model_type,
                ),
                toolbox=toolbox,
                publisher=publisher,
            )
            workflow.bind(pipeline)
            durable.launch(settings, "worker")
            stack.callback(durable.shut_down, settings, "worker")
            await workflow.register_queue()
            if settings.worker_build_tools:
                toolbox.start()
            supervisor = asyncio.create_task(supervise(pipeline))
            stack.callback(supervisor.cancel)
            app.state.configured_model = configured(settings, toolbox)
            setup = asyncio.create_task(_set_up(app.state.configured_model))
            stack.callback(setup.cancel)
            app.state.database = database
            app.state.service = JobService(pipeline)
            yield

    async def check_database(app: FastAPI) -> None:
        await app.state.database.check()

    async def check_configured_model(app: FastAPI) -> None:
        await app.state.configured_model.check()

    return create_service(
        "Tunesmith finetune-worker",
        settings,
        lifespan,
        [endpoints.router],
        checks={"database": check_database},
        details={"configured model": check_configured_model} if settings.configured_model else None,
    )


async def _set_up(model: ConfiguredModel) -> None:
    """Get the configured model; a failure is logged and shown in `/health`, and the next start tries again."""
    try:
        await model.ensure()
    except SetupFailed as error:
        _logger.error("%s", error.message, exc_info=error.__cause__)
