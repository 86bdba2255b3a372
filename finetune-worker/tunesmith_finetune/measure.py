"""Run a job's models over the same texts: a child process of the job's verification.

    python -m tunesmith_finetune.measure <job folder>

Reads `plan.json` and `proof.json` (`texts` as tokens, and `subjects`: a name and, for a GGUF, its path) from the job's
folder, and writes `figures.json`: for each subject `figures`, or `error`. All are run by the code that measured base
and adapter in training, on the same tokens, in the same number format; of a GGUF, its weights are dequantised. Products
are not made in bfloat16 as in training: that alone moved the loss of an adapter on eight short rows by 13%, whose
merged file is within 0.01%. What serving adds is not in it: llama.cpp also rounds the activations to eight bits while
it multiplies.
"""

import gc
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith_finetune.device import Device, choose_device
from tunesmith_finetune.evaluate import run_over
from tunesmith_finetune.gguf_model import load_gguf
from tunesmith_finetune.measures import ADAPTER, BASE
from tunesmith_finetune.whole import write_json


def main(folder: Path) -> None:
    """Measure the subjects of `proof.json` in the job's `folder`."""
    plan, proof = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("plan.json", "proof.json"))
    torch.set_num_threads(plan["threads"] or os.cpu_count() or 1)
    device = choose_device("none")
    pad_token_id = AutoTokenizer.from_pretrained(plan["base_folder"]).pad_token_id or 0
    found: dict[str, Any] = {}
    for subject in proof["subjects"]:
        try:
            model = _load(subject, Path(plan["base_folder"]), folder / "adapter", device)
            found[subject["name"]] = {"figures": run_over(model, pad_token_id, nullcontext, proof["texts"])}
            del model
        except Exception as error:
            found[subject["name"]] = {"error": f"{type(error).__name__}: {error}"}
        gc.collect()
    write_json(folder / "figures.json", found)


def _load(subject: dict[str, Any], base_folder: Path, adapter: Path, device: Device) -> Any:
    if subject["name"] == ADAPTER and not (adapter / "adapter_config.json").exists():  # all weights were learnt
        return AutoModelForCausalLM.from_pretrained(adapter, dtype=device.dtype, device_map=device.kind)
    if subject["name"] in (BASE, ADAPTER):
        base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=device.dtype, device_map=device.kind)
        return base if subject["name"] == BASE else _adapted(base, adapter)
    return load_gguf(Path(subject["gguf"]), device.dtype, device.kind)


def _adapted(base: Any, adapter: Path) -> Any:
    from peft import PeftModel  # noqa: PLC0415 - it takes seconds, and most jobs measure GGUFs alone

    return PeftModel.from_pretrained(base, adapter)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
