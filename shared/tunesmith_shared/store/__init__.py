"""Ollama's on-disk model store: names, manifests, blobs, GGUF headers, atomic publishing.

The engine serves from it and the fine-tune worker publishes into it; a folder filled here serves a
real Ollama and the other way round. All functions block on the disk: call them with
``asyncio.to_thread`` from a coroutine (``write_blob_stream`` is the one coroutine).
"""

from tunesmith_shared.names import ModelName
from tunesmith_shared.store.blobs import BlobStore, is_digest
from tunesmith_shared.store.gguf_header import GgufHeader, GgufTensor, GgufValue, read_gguf_header
from tunesmith_shared.store.manifest import Layer, LayerKind, Manifest, ModelConfig
from tunesmith_shared.store.models import ModelStore, StoredModel
from tunesmith_shared.store.publish import gguf_config, publish_adapter, publish_gguf, put_config, put_layer

__all__ = [
    "BlobStore",
    "GgufHeader",
    "GgufTensor",
    "GgufValue",
    "Layer",
    "LayerKind",
    "Manifest",
    "ModelConfig",
    "ModelName",
    "ModelStore",
    "StoredModel",
    "gguf_config",
    "is_digest",
    "publish_adapter",
    "publish_gguf",
    "put_config",
    "put_layer",
    "read_gguf_header",
]
