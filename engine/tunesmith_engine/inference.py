"""From a request's model name and options to a running model process."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace

from tunesmith_engine.adapters import adapted
from tunesmith_engine.durations import parse_duration
from tunesmith_engine.insert import Insertion
from tunesmith_engine.memory import estimate_bytes
from tunesmith_engine.models import Catalog, Model
from tunesmith_engine.options import LoadOptions, Options, load_options, merge_options
from tunesmith_engine.scheduler import Demand, LoadedModel, Scheduler
from tunesmith_engine.settings import EngineSettings
from tunesmith_engine.specification import Specification
from tunesmith_shared.errors import BadRequest, Unsupported

# An embedding model takes its inputs one a slot; more slots fill its batches better.
_EMBEDDING_SLOTS = 8


@dataclass(frozen=True, slots=True)
class Job:
    """A request whose model and options are known. ``options`` are complete: defaults, model's, request's.

    With an ``insertion`` the prompt is made of that when the model is loaded.
    """

    requested: str
    model: Model
    options: Options
    demand: Demand
    insertion: Insertion | None = None

    @property
    def num_ctx(self) -> int:
        """Tokens of context that this request has."""
        return self.demand.specification.num_ctx


class Inference:
    """Prepares jobs and lends out their model processes."""

    def __init__(self, settings: EngineSettings, catalog: Catalog, scheduler: Scheduler) -> None:
        self.catalog = catalog
        self.scheduler = scheduler
        self._parallel = settings.engine_parallel
        self._batch = settings.engine_batch
        self._gpu_layers = settings.engine_gpu_layers
        self._keep_alive = settings.engine_keep_alive
        self._load_defaults = LoadOptions(settings.engine_context, settings.engine_threads)

    async def prepare(
        self,
        name: str,
        options: Mapping[str, object] | None,
        keep_alive: str | float | None,
        *,
        shift: bool = True,
    ) -> Job:
        """Resolve a request. Raises NotFound, BadRequest, InvalidOption."""
        try:
            keep_seconds = parse_duration(self._keep_alive if keep_alive is None else keep_alive)
        except ValueError as error:
            raise BadRequest(str(error), param="keep_alive") from error
        model = await self.catalog.get(name)
        merged = merge_options(model.parameters, options or {})
        context = model.header.architecture_integer("context_length")
        loading = load_options(merged, shift=shift, model_context=context, default=self._load_defaults)
        specification = Specification(
            model_path=str(model.path),
            adapter_paths=tuple(str(path) for path in model.adapters),
            embedding=model.is_embedding,
            num_ctx=loading.num_ctx,
            parallel=_EMBEDDING_SLOTS if model.is_embedding else self._parallel,
            num_thread=loading.num_thread,
            batch=self._batch,
            shift=loading.shift or model.is_embedding,
            gpu_layers=self._gpu_layers,
            bfloat16=model.header.file_type == "BF16",
        )
        demand = Demand(
            name=model.name.display,
            digest=model.manifest.digest,
            details=model.details(),
            specification=specification,
            bytes=estimate_bytes(specification, model.header),
            keep_alive=keep_seconds,
        )
        return Job(name, model, merged, demand)

    @contextlib.asynccontextmanager
    async def run(self, job: Job) -> AsyncIterator[LoadedModel]:
        """The job's model, loaded, for the time of the block."""
        async with self.scheduler.use(job.demand) as loaded:
            own = adapted(loaded.process, job.demand.specification.adapter_paths)
            yield replace(loaded, process=own)

    async def load(self, job: Job) -> None:
        """Load a model without asking it anything."""
        async with self.run(job):
            pass

    async def unload(self, job: Job) -> None:
        """Unload a model when nobody uses it any more."""
        await self.scheduler.unload(job.demand.specification)


def require_name(name: str) -> None:
    """Refuse a request without a model's name where Ollama asks for one. Raises BadRequest."""
    if not name:
        raise BadRequest("model is required", param="model")


def require_completion(job: Job, what: str) -> None:
    """Refuse embedding models and models that cannot be rendered. Raises BadRequest."""
    if job.model.is_embedding:
        raise BadRequest(f'"{job.requested}" does not support {what}', param="model")
    if job.model.template and job.model.chat_template is None:
        raise BadRequest(
            f'"{job.requested}" has only a Go template, which this engine does not render, and its GGUF has no chat '
            "template of its own; use a GGUF with 'tokenizer.chat_template'",
            param="model",
        )


def require_embedding(job: Job) -> None:
    """Refuse models that chat. Raises Unsupported."""
    if not job.model.is_embedding:
        raise Unsupported("This server does not support embeddings. Start it with an embedding model", param="model")


def require_tools(job: Job) -> None:
    """Refuse tools where the model's template has no place for them. Raises BadRequest."""
    if "tools" not in job.model.capabilities:
        raise BadRequest(f"{_whole_name(job)} does not support tools", param="tools")


def with_insertion(job: Job, before: str, after: str) -> Job:
    """The job, to insert a text. Raises BadRequest for a model that was not trained for it."""
    marks = job.model.insert_marks
    if marks is None:
        raise BadRequest(f"{_whole_name(job)} does not support insert", param="suffix")
    return replace(job, insertion=Insertion(marks, before, after))


def _whole_name(job: Job) -> str:
    name = job.model.name
    return f"{name.host}/{name.namespace}/{name.model}:{name.tag}"
