"""How much memory a model process takes."""

from pathlib import Path

from tunesmith_engine.specification import Specification
from tunesmith_shared.store import GgufHeader

# Measured on small models: llama.cpp's compute buffers, the Python interpreter and the library itself.
_PROCESS_BYTES = 150 << 20
_CACHE_VALUE_BYTES = 2  # f16


def estimate_bytes(specification: Specification, header: GgufHeader) -> int:
    """About how much memory a model process takes: weights, key-value cache, working memory."""
    files = [specification.model_path, *specification.adapter_paths]
    weights = sum(Path(path).stat().st_size for path in files)
    layers = header.architecture_integer("block_count") or 0
    width = header.architecture_integer("embedding_length") or 0
    heads = header.architecture_integer("attention.head_count") or 1
    cached_heads = header.architecture_integer("attention.head_count_kv") or heads
    key_width = header.architecture_integer("attention.key_length") or width // heads
    value_width = header.architecture_integer("attention.value_length") or width // heads
    per_token = layers * cached_heads * (key_width + value_width) * _CACHE_VALUE_BYTES
    slots = 1 if specification.embedding else specification.parallel
    return weights + per_token * specification.num_ctx * slots + _PROCESS_BYTES
