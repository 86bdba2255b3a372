"""llama.cpp's converter of files from before GGUF, as a child: `... legacy_conversion <script> <its arguments>`.

The script gives a tensor's shape in weights, where the writer that it uses has come to want bytes a row: unmended, it
refuses quantised files and writes others with a wrong shape. The installed `gguf` is used, with that one call mended.
"""

import os
import runpy
import sys
from collections.abc import Sequence
from typing import Any

import gguf
import numpy as np

_write_tensor = gguf.GGUFWriter.add_tensor


def _add_tensor(
    writer: gguf.GGUFWriter,
    name: str,
    tensor: np.ndarray[Any, Any],
    raw_shape: Sequence[int] | None = None,
    raw_dtype: gguf.GGMLQuantizationType | None = None,
) -> None:
    if raw_shape is not None and raw_dtype is not None:
        raw_shape = gguf.quants.quant_shape_to_byte_shape(raw_shape, raw_dtype)
    _write_tensor(writer, name, tensor, raw_shape=raw_shape, raw_dtype=raw_dtype)


if __name__ == "__main__":
    os.environ["NO_LOCAL_GGUF"] = "1"  # the script's own wish for the installed package
    gguf.GGUFWriter.add_tensor = _add_tensor  # type: ignore[method-assign,assignment]
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
