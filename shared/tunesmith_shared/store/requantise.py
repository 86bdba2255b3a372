"""Write a GGUF file's weights in another quantisation; its metadata stay byte for byte."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from numpy.typing import NDArray

from tunesmith_shared.llama_cpp import computes_bfloat16, native
from tunesmith_shared.store.gguf_header import GgufHeader, GgufTensor, read_gguf_header

_FLOATS = {GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16}
_FILE_TYPE = b"general.file_type" + struct.pack("<I", 4)  # the key as it stands in a file, and its type, uint32


def write_served(packaged: Path, target: Path, chosen: str) -> None:
    """Write the weights of a Python package's GGUF, which are Q4_1 and Q8_0, in the type that they are served in: the
    chosen one of the setting `first_model_type`.

    llama.cpp reads prompts half as fast again from either than from Q4_1; where the processor computes in bfloat16,
    several answers at once gain more from that (benchmarks/serving). The same bytes come out each time, so that the
    model and the adapters on it share a blob.
    """
    requantise(packaged, target, GGMLQuantizationType[served_type(chosen)])


def served_type(chosen: str) -> str:
    """The name of the chosen type; of `auto` the one that suits this processor."""
    if chosen != "auto":
        return chosen
    return "BF16" if computes_bfloat16(native()) else "Q8_0"


def requantise(source: Path, target: Path, new: GGMLQuantizationType) -> None:
    """Write ``target`` like ``source``, its quantised tensors as ``new`` and the others as they are.

    Takes the memory of one tensor in float32. Raises BadRequest when ``source`` is no whole GGUF.
    """
    header = read_gguf_header(source)
    types = {tensor.name: tensor.type if tensor.type in _FLOATS else new for tensor in header.tensors}
    data = np.memmap(source, np.uint8, mode="r")
    entries = b"".join(_entries(header, types))
    with target.open("wb") as file:
        file.write(_named(bytes(data[: header.tensors_start]), LlamaFileType[f"MOSTLY_{new.name}"]))
        file.write(entries)
        file.write(bytes(-file.tell() % header.alignment))
        for tensor in header.tensors:
            content = _content(header, tensor, data)
            if types[tensor.name] != tensor.type:
                content = gguf.quantize(gguf.dequantize(content, tensor.type), new)
            file.write(content.tobytes())
            file.write(bytes(-file.tell() % header.alignment))


def _named(metadata: bytes, file_type: LlamaFileType) -> bytes:
    """The metadata with another ``general.file_type``; as they are when they have none."""
    before, key, after = metadata.partition(_FILE_TYPE)
    return before + key + struct.pack("<I", file_type) + after[4:] if key else metadata


def _entries(header: GgufHeader, types: dict[str, GGMLQuantizationType]) -> Iterator[bytes]:
    """The entry of each tensor: name, shape, type, and where its data will be."""
    offset = 0
    for tensor in header.tensors:
        name, kind = tensor.name.encode(), types[tensor.name]
        form = f"<Q{len(name)}sI{len(tensor.shape)}QIQ"
        yield struct.pack(form, len(name), name, len(tensor.shape), *tensor.shape, kind, offset)
        block, block_bytes = GGML_QUANT_SIZES[kind]
        size = tensor.elements // block * block_bytes
        offset += size + -size % header.alignment


def _content(header: GgufHeader, tensor: GgufTensor, data: NDArray[Any]) -> NDArray[Any]:
    """The tensor's bytes, a row of the matrix each; GGUF has the length of a row first."""
    start = header.data_start + tensor.offset
    return data[start : start + tensor.bytes].reshape(tensor.elements // tensor.shape[0], -1)
