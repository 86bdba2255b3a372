"""A model file of the time before GGUF: GGJT version 3 in Q8_0, as llama.cpp wrote it in 2023."""

import math
import random
import struct
from pathlib import Path

_FLOAT, _Q8_0 = 0, 8
_FILE_TYPE = 7  # mostly Q8_0
_VOCABULARY, _WIDTH, _HEADS, _FEED_FORWARD = 300, 64, 4, 128


def write_legacy_model(path: Path) -> None:
    """Write a LLaMA with one layer and random weights."""
    rotated = _WIDTH // _HEADS
    with path.open("wb") as file:
        file.write(b"tjgg" + struct.pack("<I", 3))
        file.write(struct.pack("<7I", _VOCABULARY, _WIDTH, 32, _HEADS, 1, rotated, _FILE_TYPE))
        for token in _tokens():
            file.write(struct.pack("<I", len(token)) + token + struct.pack("<f", 0.0))
        for name, shape in _tensors().items():
            encoded = name.encode()
            file.write(
                struct.pack("<3I", len(shape), len(encoded), _FLOAT if len(shape) == 1 else _Q8_0)
                + struct.pack(f"<{len(shape)}I", *shape)
            )
            file.write(encoded)
            file.write(bytes(-file.tell() % 32))
            file.write(_weights(name, shape))


def _tokens() -> list[bytes]:
    """The three special tokens, every byte, and words to fill up."""
    tokens = [b"", b"", b"", *(bytes([byte]) for byte in range(256))]
    return tokens + [f" word{number}".encode() for number in range(_VOCABULARY - len(tokens))]


def _tensors() -> dict[str, tuple[int, ...]]:
    square, wide, deep = (_WIDTH, _WIDTH), (_WIDTH, _FEED_FORWARD), (_FEED_FORWARD, _WIDTH)
    attention = {f"layers.0.attention.{name}.weight": square for name in ("wq", "wk", "wv", "wo")}
    feed_forward = {
        f"layers.0.feed_forward.{name}.weight": shape
        for name, shape in zip(("w1", "w2", "w3"), (wide, deep, wide), strict=True)
    }
    norms = {f"{name}.weight": (_WIDTH,) for name in ("norm", "layers.0.attention_norm", "layers.0.ffn_norm")}
    ends = {f"{name}.weight": (_WIDTH, _VOCABULARY) for name in ("tok_embeddings", "output")}
    return {**ends, **norms, **attention, **feed_forward}


def _weights(name: str, shape: tuple[int, ...]) -> bytes:
    """Return ones for a norm, in 32-bit floats, and random weights in Q8_0: a half float and 32 bytes a block."""
    count = math.prod(shape)
    if len(shape) == 1:
        return struct.pack(f"<{count}f", *[1.0] * count)
    chance = random.Random(name)  # noqa: S311 - weights, no secrets
    return b"".join(struct.pack("<e", 0.002) + chance.randbytes(32) for _ in range(count // 32))
