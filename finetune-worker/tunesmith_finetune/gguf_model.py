"""Load a GGUF file as a model that torch runs, in a third of the time that transformers takes by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoModelForCausalLM, GgufConfig, PreTrainedModel


def load_gguf(path: Path, dtype: torch.dtype, device: str = "cpu") -> PreTrainedModel:
    """Return the model in `path` with its weights dequantised to `dtype`, on `device` ("cpu", "cuda")."""
    with read_once():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            str(path.parent),
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=dtype,
            device_map=device,
        )
    return model


@contextmanager
def read_once() -> Iterator[None]:
    """Within this, a GGUF's metadata is read once.

    transformers 5 reads it for the configuration, for the weights and for the tokenizer, vocabulary and all, each time
    in seconds, and makes the table of the tensors' names for every module of the model anew.
    """
    library: Any = gguf
    reader, names = library.GGUFReader, library.get_tensor_name_map
    library.GGUFReader, library.get_tensor_name_map = lru_cache(maxsize=1)(reader), lru_cache(maxsize=1)(names)
    try:
        yield
    finally:
        library.GGUFReader, library.get_tensor_name_map = reader, names
