"""Put a finished GGUF file into the store under a name, without a copy and without a server.

The manifest is written last, so the model is live whole or not at all; a running engine or Ollama
on the same folder serves it at once, with the GGUF's own chat template when there is no template.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tunesmith_shared.errors import BadRequest
from tunesmith_shared.names import ModelName
from tunesmith_shared.store.gguf_header import GgufHeader, read_gguf_header
from tunesmith_shared.store.manifest import CONFIG_TYPE, Layer, LayerKind, Manifest, ModelConfig
from tunesmith_shared.store.models import ModelStore


def publish_gguf(
    store: ModelStore,
    name: ModelName,
    gguf: Path,
    *,
    system: str | None,
    parameters: Mapping[str, object] | None,
    template: str | None = None,
    license: str | None = None,
) -> Manifest:
    """Register a model file under a name; an older model of that name is replaced.

    The file is hard-linked into the store where the file system allows it: do not change it
    afterwards (deleting is fine). ``parameters`` are Ollama's options (``temperature``, ``stop``, ...).
    Raises BadRequest for a file that is no whole GGUF model, StorageFull for a full disk.
    """
    header = read_gguf_header(gguf)
    if header.is_adapter:
        raise BadRequest(f"{gguf.name} holds adapter weights; merge them into a model before publishing")
    layers = [Layer.of("model", store.adopt_blob_file(gguf), gguf.stat().st_size)]
    texts: dict[LayerKind, str | None] = {
        "template": template,
        "system": system,
        "params": json.dumps(parameters) if parameters else None,
        "license": license,
    }
    layers += [put_layer(store, kind, text.encode()) for kind, text in texts.items() if text]
    config = gguf_config(header).encode()
    manifest = Manifest(config=put_config(store, config), layers=tuple(layers))
    store.write_manifest(name, manifest)
    return manifest


def publish_adapter(
    store: ModelStore,
    name: ModelName,
    base_gguf: Path,
    adapter: Path,
    *,
    base_name: str,
    parameters: Mapping[str, object] | None,
    system: str | None = None,
) -> Manifest:
    """Register a base model's file with an adapter on top under a name; ``base_name`` is listed as its parent.

    The base's blob is shared with every model that uses it, so this takes the adapter's bytes only.
    Raises BadRequest for a file that is no whole adapter, StorageFull for a full disk.
    """
    if not read_gguf_header(adapter).is_adapter:
        raise BadRequest(f"{adapter.name} holds a model and no adapter")
    header = read_gguf_header(base_gguf)
    with base_gguf.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if not store.has_blob(digest):
        store.put_blob_file(base_gguf)
    model = Layer.of("model", digest, base_gguf.stat().st_size).model_copy(update={"source": base_name})
    layers = [model, Layer.of("adapter", store.adopt_blob_file(adapter), adapter.stat().st_size)]
    if system:
        layers.append(put_layer(store, "system", system.encode()))
    if parameters:
        layers.append(put_layer(store, "params", json.dumps(parameters).encode()))
    manifest = Manifest(config=put_config(store, gguf_config(header).encode()), layers=tuple(layers))
    store.write_manifest(name, manifest)
    return manifest


def put_layer(store: ModelStore, kind: LayerKind, content: bytes) -> Layer:
    """Store a small layer's content; gives the reference for the manifest."""
    return Layer.of(kind, store.put_blob_bytes(content), len(content))


def put_config(store: ModelStore, content: bytes) -> Layer:
    """Store a config blob; gives the reference for the manifest."""
    return Layer(media_type=CONFIG_TYPE, digest=store.put_blob_bytes(content), size=len(content))


def gguf_config(header: GgufHeader) -> ModelConfig:
    """The config that describes a model file in listings."""
    return ModelConfig(
        model_family=header.architecture,
        model_families=[header.architecture],
        model_type=human_count(header.parameters),
        file_type=header.file_type,
    )


def human_count(number: int) -> str:
    """A parameter count in Ollama's spelling: ``134.52M``, ``8.0B``, ``8B``."""
    if number >= 1_000_000_000:
        return f"{number / 1e9:.0f}B" if number % 1_000_000_000 == 0 else f"{number / 1e9:.1f}B"
    if number >= 1_000_000:
        return f"{number / 1e6:.0f}M" if number % 1_000_000 == 0 else f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.0f}K" if number >= 1000 else str(number)
