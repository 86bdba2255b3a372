"""The GGUF check: a whole file is read, every kind of cut or lie is refused with its reason."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from tunesmith_shared.errors import BadRequest
from tunesmith_shared.store import read_gguf_header

_HEAD = b"GGUF" + struct.pack("<I", 3)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "whole.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(15)
    writer.add_context_length(64)
    writer.add_token_list(["a", "ü"])
    writer.add_token_scores([0.5, 1.5])
    writer.add_tensor("one", np.zeros((4, 32), dtype=np.float32))
    writer.add_tensor("two", np.zeros((2, 144), dtype=np.uint8), raw_dtype=GGMLQuantizationType.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + value


def _tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return _text(name) + dimensions + struct.pack("<IQ", kind, offset)


def _file(pairs: list[bytes], tensors: list[bytes], data: int = 256) -> bytes:
    counts = struct.pack("<QQ", len(tensors), len(pairs))
    return _HEAD + counts + b"".join(pairs) + b"".join(tensors) + bytes(data)


_LLAMA = _pair("general.architecture", 8, _text("llama"))

LIES = {
    "no GGUF": (b"PK\x03\x04" + bytes(100), "starts with"),
    "empty": (b"", "only 0 bytes"),
    "old version": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
    "tensor count": (_HEAD + struct.pack("<QQ", 1 << 60, 0), "claims 1152921504606846976 tensors"),
    "pair count": (_HEAD + struct.pack("<QQ", 0, 1 << 60), "metadata entries"),
    "string length": (_HEAD + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1 << 62) + bytes(64), "name of"),
    "value length": (_file([_text("k") + struct.pack("<IQ", 8, 1 << 40)], []), "ends inside its header"),
    "array length": (_file([_pair("k", 9, struct.pack("<IQ", 4, 1 << 50))], []), "values in 'k'"),
    "string array": (_file([_pair("k", 9, struct.pack("<IQ", 8, 1 << 50))], []), "strings in 'k'"),
    "nested array": (_file([_pair("k", 9, struct.pack("<IQ", 9, 1))], []), "unknown element type 9"),
    "value type": (_file([_pair("k", 77, b"")], []), "unknown type 77"),
    "no architecture": (_file([], []), "general.architecture"),
    "double key": (_file([_LLAMA, _LLAMA], []), "there twice"),
    "dimensions": (_file([_LLAMA], [_tensor("t", (1,) * 5, 0, 0)]), "5 dimensions"),
    "tensor type": (_file([_LLAMA], [_tensor("t", (32,), 250, 0)]), "unknown type 250"),
    "empty tensor": (_file([_LLAMA], [_tensor("t", (0,), 0, 0)]), "impossible shape"),
    "half a block": (_file([_LLAMA], [_tensor("t", (31,), 2, 0)]), "impossible shape"),
    "unaligned": (_file([_LLAMA], [_tensor("t", (32,), 0, 7)]), "unaligned"),
    "past the end": (_file([_LLAMA], [_tensor("t", (32,), 0, 1 << 40)]), "the file has"),
    "huge shape": (_file([_LLAMA], [_tensor("t", (1 << 62, 1 << 62), 0, 0)]), "the file has"),
    "double tensor": (_file([_LLAMA], [_tensor("t", (32,), 0, 0)] * 2), "there twice"),
    "alignment": (_file([_LLAMA, _pair("general.alignment", 4, struct.pack("<I", 0))], []), "power of two"),
}


def test_a_whole_file_is_read(whole: Path) -> None:
    header = read_gguf_header(whole)
    assert header.architecture == "llama"
    assert header.file_type == "Q4_K_M"
    assert header.architecture_integer("context_length") == 64
    assert header.metadata["tokenizer.ggml.tokens"] == ["a", "ü"]
    assert header.metadata["tokenizer.ggml.scores"] == [0.5, 1.5]
    assert [(tensor.name, tensor.shape, tensor.bytes) for tensor in header.tensors] == [
        ("one", (32, 4), 512),
        ("two", (256, 2), 288),
    ]
    assert header.parameters == 128 + 512


def test_every_cut_is_noticed(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(0, len(content) - 32, 7):
        cut.write_bytes(content[:length])
        with pytest.raises(BadRequest, match="invalid GGUF file"):
            read_gguf_header(cut)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_with_its_reason(lie: str, tmp_path: Path) -> None:
    content, reason = LIES[lie]
    path = tmp_path / "lie.gguf"
    path.write_bytes(content)
    with pytest.raises(BadRequest, match=reason):
        read_gguf_header(path)
