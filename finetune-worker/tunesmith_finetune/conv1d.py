"""Adapters of models whose layers keep their weights transposed (GPT-2's Conv1D), for llama.cpp's converter.

PEFT writes the same two matrices for such a layer as for any other, so that the layer's weight, as its file has it,
changes by the transpose of their product. The converter takes an adapter's product for the change itself, and
transposes it with the weight. The transpose of a product is the product of the transposes in the other order: that is
what it gets.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"


def is_transposed(adapter: Path) -> bool:
    """Whether the layers of the adapter in the folder `adapter` keep their weights transposed."""
    return bool(json.loads((adapter / SETTINGS).read_text(encoding="utf-8")).get("fan_in_fan_out"))


def write_transposed(adapter: Path, output: Path) -> None:
    """Write the adapter in the folder `adapter` to the new folder `output`, as the converter must see it."""
    output.mkdir()
    shutil.copyfile(adapter / SETTINGS, output / SETTINGS)
    swapped = {}
    for name, weight in load_file(adapter / WEIGHTS).items():
        other = name.replace("lora_A", "lora_B") if "lora_A" in name else name.replace("lora_B", "lora_A")
        swapped[other] = np.ascontiguousarray(weight.T)
    save_file(swapped, output / WEIGHTS, metadata={"format": "pt"})
