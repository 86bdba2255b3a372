"""Measure base, adapter and finished files on the same rows: a child process of a job's verification.

    python -m tunesmith_finetune.measure <job folder>

Reads `plan.json` and `proof.json` (`rows` as tokens, and `subjects`: a name and, for a GGUF, its path) from the job's
folder, and writes `losses.json`: for each subject `loss` and `accuracy`, or `error`. All are run by the same code, on
the same tokens, in the same number format; of a GGUF, its weights are dequantised. Products are not made in bfloat16
as in training: that alone moved the loss of an adapter on eight short rows by 13%, whose merged file is within 0.01%.
What serving adds is not in it: llama.cpp also rounds the activations to eight bits while it multiplies.

Of preferences, the loss is that of DPO, with the base as the reference (ln 2 for the base itself), or of rated answers
KTO's without its batch term (a half for the base); the accuracy is how often the better answer gained.
"""

import gc
import json
import math
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from tunesmith_finetune.device import Device, choose_device
from tunesmith_finetune.evaluate import completion_log_probabilities, measure_examples
from tunesmith_finetune.measure_names import ADAPTER, BASE
from tunesmith_finetune.whole import write_json

Rows = list[dict[str, Any]]
DEFAULT_BETA = 0.1


def main(folder: Path) -> None:
    """Measure the subjects of `proof.json` in the job's `folder`."""
    plan, proof = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("plan.json", "proof.json"))
    torch.set_num_threads(plan["threads"] or os.cpu_count() or 1)
    device, rows = choose_device("none"), proof["rows"]
    pad_token_id = AutoTokenizer.from_pretrained(plan["base_folder"]).pad_token_id or 0
    reference: list[float] = []
    losses: dict[str, Any] = {}

    for subject in proof["subjects"]:
        try:
            model = _load(subject, Path(plan["base_folder"]), folder / "adapter", device)
            if "input_ids" in rows[0]:
                losses[subject["name"]] = measure_examples(model, pad_token_id, nullcontext, rows)
            else:
                logs = completion_log_probabilities(model, pad_token_id, nullcontext, sequences(rows))
                reference = reference or logs
                beta = plan["hyperparameters"]["beta"] or DEFAULT_BETA
                losses[subject["name"]] = preference_measures(rows, logs, reference, beta)
            del model
        except Exception as error:
            losses[subject["name"]] = {"error": f"{type(error).__name__}: {error}"}
        gc.collect()
    write_json(folder / "losses.json", losses)


def _load(subject: dict[str, Any], base_folder: Path, adapter: Path, device: Device) -> Any:
    if subject["name"] == ADAPTER and not (adapter / "adapter_config.json").exists():  # all weights were learnt
        return AutoModelForCausalLM.from_pretrained(adapter, dtype=device.dtype, device_map=device.kind)
    if subject["name"] in (BASE, ADAPTER):
        base = AutoModelForCausalLM.from_pretrained(base_folder, dtype=device.dtype, device_map=device.kind)
        return base if subject["name"] == BASE else PeftModel.from_pretrained(base, adapter)
    gguf = Path(subject["gguf"])
    return AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=device.dtype,
        device_map=device.kind,
    )


def sequences(rows: Rows) -> list[tuple[list[int], list[int]]]:
    """Return prompts and answers: of rated rows one each, of pairs first all chosen and then all rejected ones."""
    if "completion_ids" in rows[0]:
        return [(row["prompt_ids"], row["completion_ids"]) for row in rows]
    return [(row["prompt_ids"], row[answer]) for answer in ("chosen_ids", "rejected_ids") for row in rows]


def preference_measures(rows: Rows, logs: list[float], reference: list[float], beta: float) -> dict[str, float]:
    """Return `loss` and `accuracy` of answers whose log-probabilities are `logs`, and `reference` for the base."""
    rewards = [beta * (ours - base) for ours, base in zip(logs, reference, strict=True)]
    if "completion_ids" in rows[0]:
        gains = [reward if row["label"] else -reward for row, reward in zip(rows, rewards, strict=True)]
        loss = sum(1 - _sigmoid(gain) for gain in gains) / len(gains)
    else:
        gains = [rewards[index] - rewards[len(rows) + index] for index in range(len(rows))]
        loss = sum(-math.log(max(_sigmoid(gain), 1e-30)) for gain in gains) / len(gains)
    right = sum(0.5 if gain == 0 else float(gain > 0) for gain in gains)
    return {"loss": loss, "accuracy": right / len(gains)}


def _sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-max(min(number, 500.0), -500.0)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
