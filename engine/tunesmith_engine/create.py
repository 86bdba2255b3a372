"""``/api/create``: a model from another one or an uploaded file, with its own system message, parameters, adapter."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field

from tunesmith_engine.models import Json
from tunesmith_engine.options import check_options
from tunesmith_engine.quantise import Quantising, check_quantize, quantised
from tunesmith_shared.errors import BadRequest, NotFound
from tunesmith_shared.store import (
    GgufHeader,
    Layer,
    LayerKind,
    Manifest,
    ModelConfig,
    ModelName,
    ModelStore,
    gguf_config,
    put_config,
    put_layer,
    read_gguf_header,
)


class CreateRequest(BaseModel):
    """Ollama's body; ``name`` is the old spelling of ``model``."""

    model_config = ConfigDict(populate_by_name=True, extra="ignore")

    model: str = ""
    name: str = ""
    from_: str = Field(default="", alias="from")
    files: dict[str, str] = {}
    adapters: dict[str, str] = {}
    template: str = ""
    system: str = ""
    license: str | list[str] = []
    parameters: dict[str, object] = {}
    messages: list[dict[str, object]] = []
    quantize: str = ""
    stream: bool = True


@dataclass(frozen=True, slots=True)
class Base:
    """What a new model starts from: layers, the config, and the model file's header."""

    layers: list[Layer]
    config: ModelConfig
    header: GgufHeader


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked request; carrying it out only fails when the disk does, or llama-quantize."""

    name: ModelName
    request: CreateRequest
    base: Base
    adapter: Layer | None
    quantising: Quantising | None
    reports: list[str] = field(default_factory=list)


def plan_create(store: ModelStore, request: CreateRequest, quantiser: Callable[[], Path]) -> Plan:
    """Check everything before anything is written; `quantiser` finds llama-quantize.

    Raises BadRequest, NotFound, InvalidOption, Unsupported.
    """
    name = ModelName.parse(request.model or request.name)
    if not request.from_ and not request.files:
        raise BadRequest("neither 'from' or 'files' was specified", param="from")
    check_options(request.parameters)
    reports: list[str] = []
    base = _from_model(store, request.from_) if request.from_ else _from_files(store, request.files)
    if request.files and not request.from_:
        reports.append("parsing GGUF")
    wanted = request.quantize
    quantising = Quantising(check_quantize(wanted, base.header.file_type), quantiser()) if wanted else None
    reports += [f"using existing layer {layer.digest}" for layer in base.layers]
    if request.template and request.template not in _templates(store, base):
        raise BadRequest(
            "this engine renders with the GGUF's own chat template and not with a Go template; leave 'template' out",
            param="template",
        )
    return Plan(name, request, base, _adapter(store, request.adapters, base), quantising, reports)


async def run_create(store: ModelStore, plan: Plan) -> AsyncIterator[Json]:
    """Write the model, with Ollama's status lines."""
    for report in plan.reports:
        yield {"status": report}
    if plan.quantising is not None:
        yield {"status": f"quantizing {plan.base.header.file_type} model to {plan.quantising.kind}"}
        plan = replace(plan, base=await _smaller(store, plan.base, plan.quantising))
    layers = await asyncio.to_thread(_new_layers, store, plan)
    for layer in layers:
        if layer not in plan.base.layers:
            yield {"status": f"creating new layer {layer.digest}"}
    yield {"status": "writing manifest"}
    await asyncio.to_thread(_write, store, plan, layers)
    yield {"status": "success"}


async def _smaller(store: ModelStore, base: Base, quantising: Quantising) -> Base:
    """The base with its model file in the other type."""
    model = next(layer for layer in base.layers if layer.kind == "model")
    path = store.blob_path(await quantised(store, store.blob_path(model.digest), quantising))
    header = await asyncio.to_thread(read_gguf_header, path)
    smaller = Layer.of("model", path.name.replace("sha256-", "sha256:"), path.stat().st_size)
    layers = [smaller if layer == model else layer for layer in base.layers]
    return Base(layers, base.config.model_copy(update={"file_type": header.file_type}), header)


def _from_model(store: ModelStore, source: str) -> Base:
    try:
        stored = store.read_model(ModelName.parse(source))
    except (NotFound, BadRequest) as error:
        raise NotFound(
            f"model '{source}' not found; pull it first, or choose one that /api/tags lists",
            param="from",
            code="model_not_found",
        ) from error
    models = stored.manifest.of_kind("model")
    if not models:
        raise BadRequest(f"model '{source}' has no model layer", param="from")
    parent = stored.name.display
    layers = [layer.model_copy(update={"source": parent}) for layer in stored.manifest.layers]
    return Base(layers, store.read_config(stored.manifest), read_gguf_header(store.blob_path(models[0].digest)))


def _from_files(store: ModelStore, files: dict[str, str]) -> Base:
    if len(files) != 1:
        raise BadRequest("exactly one GGUF file is supported; convert safetensors first", param="files")
    [(file_name, digest)] = files.items()
    header, layer = _gguf_layer(store, file_name, digest, "model")
    if header.is_adapter:
        raise BadRequest(f"{file_name} holds adapter weights; name it under 'adapters' beside 'from'", param="files")
    return Base([layer], gguf_config(header), header)


def _adapter(store: ModelStore, adapters: dict[str, str], base: Base) -> Layer | None:
    if not adapters:
        return None
    if len(adapters) > 1:
        raise BadRequest("only one adapter is currently supported", param="adapters")
    [(file_name, digest)] = adapters.items()
    header, layer = _gguf_layer(store, file_name, digest, "adapter")
    if not header.is_adapter:
        raise BadRequest(f"{file_name} is a model and no adapter", param="adapters")
    if header.architecture != base.header.architecture:
        raise BadRequest(
            f"the adapter is made for '{header.architecture}' models and this model is '{base.header.architecture}'",
            param="adapters",
        )
    return layer


def _gguf_layer(store: ModelStore, file_name: str, digest: str, kind: LayerKind) -> tuple[GgufHeader, Layer]:
    path = store.blob_path(digest)
    if not path.is_file():
        raise BadRequest(f"blob {digest} of {file_name} is not there; upload it to /api/blobs/{digest} first")
    header = read_gguf_header(path)
    return header, Layer.of(kind, digest.replace("sha256-", "sha256:"), path.stat().st_size)


def _templates(store: ModelStore, base: Base) -> list[str]:
    """Templates that the base has already; naming one again changes nothing."""
    stored = [store.read_blob(layer).decode() for layer in base.layers if layer.kind == "template"]
    return [*stored, base.header.text("tokenizer.chat_template") or ""]


def _new_layers(store: ModelStore, plan: Plan) -> list[Layer]:
    """The base's layers with what the request replaces."""
    request = plan.request
    layers = list(plan.base.layers)
    if plan.adapter is not None:
        layers = [layer for layer in layers if layer.kind != "adapter"] + [plan.adapter]
    if request.system:
        layers = _replace(store, layers, "system", request.system.encode())
    if request.parameters:
        old = [orjson.loads(store.read_blob(layer)) for layer in layers if layer.kind == "params"]
        merged = {**(old[-1] if old else {}), **request.parameters}
        layers = _replace(store, layers, "params", orjson.dumps(merged))
    if request.messages:
        layers = _replace(store, layers, "messages", orjson.dumps(request.messages))
    licenses = [request.license] if isinstance(request.license, str) else request.license
    layers += [put_layer(store, "license", text.encode()) for text in licenses if text]
    return layers


def _replace(store: ModelStore, layers: list[Layer], kind: LayerKind, content: bytes) -> list[Layer]:
    return [*(layer for layer in layers if layer.kind != kind), put_layer(store, kind, content)]


def _write(store: ModelStore, plan: Plan, layers: list[Layer]) -> None:
    config = put_config(store, plan.base.config.encode())
    store.write_manifest(plan.name, Manifest(config=config, layers=tuple(layers)))
