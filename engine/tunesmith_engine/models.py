"""The models of the store as the API sees them: resolve, list, describe, copy, delete."""

import asyncio
import contextlib
import datetime
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from pydantic import ValidationError

from tunesmith_engine.insert import Marks, insert_marks
from tunesmith_shared.errors import BadRequest, NotFound
from tunesmith_shared.store import (
    GgufHeader,
    GgufValue,
    Manifest,
    ModelConfig,
    ModelName,
    ModelStore,
    StoredModel,
    read_gguf_header,
)

Json = dict[str, object]

_CACHED_MODELS = 64
_SMALL_LIST = 64


@dataclass(frozen=True, slots=True)
class Model:
    """A stored model with everything that a request needs, read once."""

    name: ModelName
    manifest: Manifest
    config: ModelConfig
    modified_at: float
    header: GgufHeader
    path: Path
    adapters: tuple[Path, ...]
    system: str
    template: str
    licenses: tuple[str, ...]
    parameters: Json
    messages: tuple[Json, ...]
    insert_marks: Marks | None

    @property
    def chat_template(self) -> str | None:
        """The GGUF's own jinja template."""
        return self.header.text("tokenizer.chat_template")

    @property
    def is_embedding(self) -> bool:
        """Whether the model gives vectors and cannot chat, by the same sign that Ollama uses."""
        return self.header.architecture_integer("pooling_type") is not None

    @property
    def capabilities(self) -> list[str]:
        """What Ollama lists in ``/api/show``."""
        if self.is_embedding:
            return ["embedding"]
        template = self.chat_template or ""
        thinks = "<think>" in template or "reasoning_content" in template
        able = {"tools": "tools" in template, "insert": self.insert_marks is not None, "thinking": thinks}
        return ["completion", *(name for name, has in able.items() if has)]

    @property
    def parent(self) -> str:
        """The model that this one was created from, as far as the store knows."""
        layers = self.manifest.of_kind("model")
        return (layers[0].source or "") if layers else ""

    def details(self) -> Json:
        """The ``details`` object of listings."""
        return details(self.config, self.parent)


def details(config: ModelConfig, parent: str) -> Json:
    """The ``details`` object of a listing."""
    return {
        "parent_model": parent,
        "format": config.model_format,
        "family": config.model_family,
        "families": config.model_families,
        "parameter_size": config.model_type,
        "quantization_level": config.file_type,
    }


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, as Go writes it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Catalog:
    """Reads models and keeps what was read as long as the manifest does not change."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store
        self._models: OrderedDict[tuple[str, str, float], Model] = OrderedDict()

    async def get(self, name: str) -> Model:
        """The model of that name, in any case. Raises NotFound as Ollama words it."""
        try:
            parsed = ModelName.parse(name)
        except BadRequest as error:
            raise _unknown(name) from error
        try:
            stored = self.store.read_model(parsed)
        except NotFound as error:
            raise _unknown(name) from error
        key = (stored.name.key, stored.manifest.digest, stored.modified_at)
        model = self._models.get(key)
        if model is None:
            model = await asyncio.to_thread(self._read, stored)
            self._models[key] = model
            if len(self._models) > _CACHED_MODELS:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return model

    def tags(self) -> list[Json]:
        """The models as ``/api/tags`` lists them."""
        tags = []
        for stored in self.store.list():
            with contextlib.suppress(NotFound, ValidationError):  # a model that is deleted just now, or damaged
                tags.append(self._tag(stored))
        return tags

    def _tag(self, stored: StoredModel) -> Json:
        config = self.store.read_config(stored.manifest)
        layers = stored.manifest.of_kind("model")
        return {
            "name": stored.name.display,
            "model": stored.name.display,
            "modified_at": timestamp(stored.modified_at),
            "size": stored.manifest.size,
            "digest": stored.manifest.digest,
            "details": details(config, (layers[0].source or "") if layers else ""),
        }

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name. Raises NotFound, BadRequest for an invalid name."""
        original, target = _parsed("source", source), _parsed("destination", destination)
        try:
            self.store.copy(original, target)
        except NotFound as error:
            raise NotFound(f'model "{source}" not found', param="source") from error

    def delete(self, name: str) -> None:
        """Remove a model; one that is loaded goes on until its keep-alive ends. Raises NotFound."""
        try:
            self.store.delete(_parsed("name", name))
        except NotFound as error:
            raise _unknown(name) from error

    def _read(self, stored: StoredModel) -> Model:
        manifest, store = stored.manifest, self.store
        layers = manifest.of_kind("model")
        if not layers:
            raise BadRequest(f"model '{stored.name.display}' has no model layer; create it again")
        path = store.blob_path(layers[0].digest)
        if not path.is_file():
            raise NotFound(f"blob {layers[0].digest} of model '{stored.name.display}' is missing; create it again")
        texts = {
            kind: [store.read_blob(layer).decode() for layer in manifest.of_kind(kind)]
            for kind in ("system", "template", "license", "params", "messages")
        }
        header = read_gguf_header(path)
        return Model(
            name=stored.name,
            manifest=manifest,
            config=store.read_config(manifest),
            modified_at=stored.modified_at,
            header=replace(header, metadata=_without_long_lists(header)),
            path=path,
            adapters=tuple(store.blob_path(layer.digest) for layer in manifest.of_kind("adapter")),
            system="".join(texts["system"][-1:]),
            template="".join(texts["template"][-1:]),
            licenses=tuple(texts["license"]),
            parameters=orjson.loads(texts["params"][-1]) if texts["params"] else {},
            messages=tuple(orjson.loads(texts["messages"][-1])) if texts["messages"] else (),
            insert_marks=insert_marks(header.metadata),
        )


def _without_long_lists(header: GgufHeader) -> dict[str, GgufValue]:
    """The metadata without vocabularies, which would fill the memory and which nobody asks for."""
    return {k: v for k, v in header.metadata.items() if not isinstance(v, list) or len(v) <= _SMALL_LIST}


def _parsed(field: str, name: str) -> ModelName:
    try:
        return ModelName.parse(name)
    except BadRequest as error:
        raise BadRequest(f'{field} "{name}" is invalid', param=field) from error


def _unknown(name: str) -> NotFound:
    return NotFound(f"model '{name}' not found")
