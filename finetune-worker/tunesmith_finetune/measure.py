"""Measure a finished model file on the rows that were not trained on: a child process of a job's verification.

    python -m tunesmith_finetune.measure <job folder> <model.gguf>

Writes `quantised.json` with `loss` and `accuracy` as `evaluate.py` gives them for the base and the adapter: the file's
weights, dequantised, are run by the same code on the same tokens in the same number format. What serving adds is not in
it: llama.cpp also rounds the activations to eight bits while it multiplies.
"""

import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from tunesmith_finetune.device import choose_device
from tunesmith_finetune.evaluate import measure_examples
from tunesmith_finetune.whole import write_json


def main(folder: Path, gguf: Path) -> None:
    """Measure `gguf` on the evaluation rows in the job's `folder`."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    torch.set_num_threads(plan["threads"] or os.cpu_count() or 1)
    device = choose_device("none")
    with (folder / "valid.tokens.jsonl").open(encoding="utf-8") as lines:
        rows = [{name: value for name, value in json.loads(line).items() if name != "row"} for line in lines]
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=device.dtype,
        device_map=device.kind,
    )

    def number_format() -> AbstractContextManager[Any]:
        return torch.autocast(device.kind, torch.bfloat16) if device.autocast_bf16 else nullcontext()

    pad_token_id = AutoTokenizer.from_pretrained(plan["base_folder"]).pad_token_id
    write_json(folder / "quantised.json", measure_examples(model, pad_token_id, number_format, rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
