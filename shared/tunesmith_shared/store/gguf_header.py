"""Read and check a GGUF file's header without trusting a number in it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian).
Everything a count or an offset claims is compared with the file's size first, so a cut or lying
file costs neither memory nor a crash, and the message says what is wrong with it.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from tunesmith_shared.errors import BadRequest

GgufValue = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_SMALLEST_PAIR_BYTES = 13  # key length, value type, one byte of value
_SMALLEST_TENSOR_BYTES = 24  # name length, dimension count, type, offset
_MOST_DIMENSIONS = 4
_LONGEST_KEY_BYTES = 65535


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor's entry; ``offset`` counts from the start of the data section."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int

    @property
    def elements(self) -> int:
        """How many weights."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in the file."""
        block, block_bytes = GGML_QUANT_SIZES[self.type]
        return self.elements // block * block_bytes


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A checked header: all metadata and all tensor entries, and the bytes where tensor entries and data begin."""

    version: int
    metadata: dict[str, GgufValue]
    tensors: tuple[GgufTensor, ...]
    tensors_start: int
    data_start: int

    @property
    def alignment(self) -> int:
        """What each tensor's offset is a multiple of, in bytes."""
        return _alignment(self.metadata)

    @property
    def architecture(self) -> str:
        """``llama``, ``bert``, ..."""
        return str(self.metadata["general.architecture"])

    @property
    def is_adapter(self) -> bool:
        """Whether the file holds LoRA weights instead of a model."""
        return self.metadata.get("general.type") == "adapter"

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def file_type(self) -> str:
        """The quantisation in Ollama's spelling, ``Q4_K_M``; ``unknown`` when the file does not say."""
        number = self.metadata.get("general.file_type")
        try:
            return (
                LlamaFileType(number if isinstance(number, int) else -1)
                .name.removeprefix("MOSTLY_")
                .removeprefix("ALL_")
            )
        except ValueError:
            return "unknown"

    def architecture_integer(self, key: str) -> int | None:
        """An integer of the architecture's own keys, ``context_length`` say; None when it is not there."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if isinstance(value, int) else None

    def text(self, key: str) -> str | None:
        """A string value, None when it is not there."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check a header. Raises BadRequest with the reason when the file is no whole GGUF."""
    size = path.stat().st_size
    if size < 24:
        raise _invalid(f"it has only {size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Reader(data, size).read()


def _alignment(metadata: dict[str, GgufValue]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise _invalid(f"the alignment {alignment!r} is not a power of two")
    return alignment


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"invalid GGUF file: {reason}", code="invalid_gguf")


class _Reader:
    """A cursor over the file that refuses to pass its end."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self._data = data
        self._size = size
        self._at = 0

    def read(self) -> GgufHeader:
        """The whole header, checked."""
        if self._data[:4] != _MAGIC:
            raise _invalid(f"it starts with {self._data[:4]!r} and not with 'GGUF'")
        self._at = 4
        version = self._number("I")
        if version not in _VERSIONS:
            raise _invalid(f"version {version} is not supported (2 and 3 are)")
        tensor_count, pair_count = self._number("Q"), self._number("Q")
        self._check_count("tensors", tensor_count, _SMALLEST_TENSOR_BYTES)
        self._check_count("metadata entries", pair_count, _SMALLEST_PAIR_BYTES)
        metadata: dict[str, GgufValue] = {}
        for _ in range(pair_count):
            key = self._string(_LONGEST_KEY_BYTES)
            if key in metadata:
                raise _invalid(f"the key {key!r} is there twice")
            metadata[key] = self._value(self._number("I"), key)
        tensors_start = self._at
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        if not isinstance(metadata.get("general.architecture"), str):
            raise _invalid("'general.architecture' is missing")
        alignment = _alignment(metadata)
        data_start = -(-self._at // alignment) * alignment
        self._check_tensors(tensors, alignment, data_start)
        return GgufHeader(version, metadata, tensors, tensors_start, data_start)

    def _check_count(self, what: str, count: int, smallest_bytes: int) -> None:
        if count * smallest_bytes > self._size - self._at:
            raise _invalid(f"it claims {count} {what}, more than its {self._size} bytes can hold")

    def _take(self, count: int) -> int:
        """Move on by so many bytes; gives where they start."""
        start = self._at
        if count > self._size - start:
            raise _invalid(f"it ends inside its header, at byte {self._size}; the file is cut")
        self._at = start + count
        return start

    def _number(self, code: str) -> int:
        form = "<" + code
        number: int = struct.unpack_from(form, self._data, self._take(struct.calcsize(form)))[0]
        return number

    def _string(self, longest: int | None = None) -> str:
        length = self._number("Q")
        if longest is not None and length > longest:
            raise _invalid(f"a name of {length} bytes")
        start = self._take(length)
        return self._data[start : self._at].decode("utf-8", errors="replace")

    def _value(self, kind: int, key: str) -> GgufValue:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise _invalid(f"the key {key!r} has the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _array(self, key: str) -> GgufValue:
        kind, count = self._number("I"), self._number("Q")
        if kind == _STRING:
            self._check_count(f"strings in {key!r}", count, 8)
            return [self._string() for _ in range(count)]
        if kind not in _SCALARS:
            raise _invalid(f"the array {key!r} has the unknown element type {kind}")
        code = _SCALARS[kind]
        width = struct.calcsize("<" + code)
        self._check_count(f"values in {key!r}", count, width)
        return list(struct.unpack_from(f"<{count}{code}", self._data, self._take(count * width)))

    def _tensor(self) -> GgufTensor:
        name = self._string(_LONGEST_KEY_BYTES)
        dimensions = self._number("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise _invalid(f"the tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        kind = self._number("I")
        try:
            tensor_type = GGMLQuantizationType(kind)
        except ValueError:
            raise _invalid(f"the tensor {name!r} has the unknown type {kind}") from None
        return GgufTensor(name, shape, tensor_type, self._number("Q"))

    def _check_tensors(self, tensors: tuple[GgufTensor, ...], alignment: int, data_start: int) -> None:
        """Every tensor must be whole blocks, aligned, and end inside the file."""
        names: set[str] = set()
        for tensor in tensors:
            if tensor.name in names:
                raise _invalid(f"the tensor {tensor.name!r} is there twice")
            names.add(tensor.name)
            if tensor.elements == 0 or tensor.shape[0] % GGML_QUANT_SIZES[tensor.type][0]:
                raise _invalid(f"the tensor {tensor.name!r} has the impossible shape {list(tensor.shape)}")
            if tensor.offset % alignment:
                raise _invalid(f"the tensor {tensor.name!r} starts at the unaligned offset {tensor.offset}")
            end = data_start + tensor.offset + tensor.bytes
            if end > self._size:
                raise _invalid(
                    f"the tensor {tensor.name!r} ends at byte {end}, but the file has {self._size} bytes; "
                    "it is cut or its offsets are wrong"
                )
