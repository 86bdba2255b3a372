"""How long a training will take and how much memory: a child process, since only those import torch.

    python -m tunesmith_finetune.estimate <request.json>

The request has `base_folder`, `method`, `hyperparameters`, `steps`, `tokens_a_step` and `most_tokens` (of a step and of
the largest batch, padding included), `learnt_share` (of the tokens) and `threads`. The answer is one JSON object on
standard output. Nothing is loaded: the model is built without weights, and the pace is that of a short matrix product
of the model's own shape in the number format of the training, on this machine.

The constants are fitted to supervised training of SmolLM2-135M on a CPU (benchmarks/finetune shows how well).
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from tunesmith_finetune.device import Device, choose_device

PROBE_SECONDS = 0.5
SHARE_OF_PEAK = 0.44
"""Of the pace of one large product, what a training reaches: attention, norms and the optimiser do no large ones."""
LIBRARIES_BYTES = 650 * 2**20
"""Resident memory of a training process before it has a model."""
KEPT_BYTES = {"bfloat16": 4.8, "float32": 8.0}
"""Bytes kept for the way back for each number that goes into or comes out of a product, by what it is made in."""
HEAD_TILE_TOKENS, HEAD_TILE_WORDS = 4096, 32768
"""How much of the logits is there at once: TRL's trainers go through them in tiles of so many tokens and words."""
HEAD_BYTES = {"cpu": 30.0, "cuda": 2.0}
"""Bytes for each logit of a tile: on CUDA a kernel works in place, on a CPU torch makes copies in float32."""
FORWARDS = {"supervised": 1.0, "dpo": 2.0, "orpo": 1.0, "kto": 4.0}
"""Forward passes a text gets: preference training also asks the reference, and KTO both for a mismatched answer."""
ADAM_BYTES = 16
"""Bytes for each learnt number: itself, its gradient and Adam's two moments, in float32."""
QUANTISED_BYTES = {"nf4": 0.56, "int8": 1.06}


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Return the estimate for `request`: seconds, bytes, and what they were computed from."""
    torch.set_num_threads(request["threads"] or os.cpu_count() or 1)
    chosen = request["hyperparameters"]
    device = choose_device(chosen["quantization"])
    config = AutoConfig.from_pretrained(request["base_folder"])
    shape = _Shape(config, chosen)
    pace = _pace(config, device)
    seconds = request["steps"] * shape.operations(request["tokens_a_step"], request["method"]) / (pace * SHARE_OF_PEAK)
    return {
        "seconds": round(seconds),
        "memory_bytes": round(shape.memory(request["most_tokens"], request["learnt_share"], device)),
        "device": device.kind,
        "quantization": device.quantization,
        "parameters": shape.parameters,
        "learnt_parameters": shape.learnt,
    }


class _Shape:
    """The sizes of a model, from its configuration alone."""

    def __init__(self, config: PreTrainedConfig, chosen: dict[str, Any]) -> None:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        self.parameters: int = sum(parameter.numel() for parameter in model.parameters())
        embeddings = _weight(model.get_input_embeddings())
        outer = (embeddings, _weight(model.get_output_embeddings()))  # type: ignore[no-untyped-call]
        products = [
            weight
            for module in model.modules()
            if (weight := _weight(module)) is not None and weight.dim() == 2 and all(weight is not one for one in outer)
        ]
        self.in_products: int = sum(weight.numel() for weight in products)
        self.in_head: int = embeddings.numel() if embeddings is not None else 0
        self.words: int = embeddings.shape[0] if embeddings is not None else 0
        rank = chosen["lora_rank"]
        self.learnt: int = sum(rank * sum(weight.shape) for weight in products) if rank else self.parameters
        self.widths: int = sum(sum(weight.shape) for weight in products)
        self.layers: int = config.num_hidden_layers
        self.width: int = config.hidden_size
        self.checkpointing: bool = chosen["gradient_checkpointing"]
        self.full = chosen["tuning"] == "full"

    def operations(self, tokens: int, method: str) -> float:
        """Return the operations of a step on `tokens`: two for each number and pass, and one pass more backwards for
        the numbers' own gradients where they are learnt.
        """
        forward = 2.0 * tokens * (self.in_products + self.in_head)
        backward = forward * (2 if self.full else 1) + forward * (1 if self.checkpointing else 0)
        return forward * FORWARDS[method] + backward

    def memory(self, tokens: int, learnt_share: float, device: Device) -> float:
        """Return the bytes at the peak: libraries, weights, what is learnt, and what a step keeps for its way back."""
        number = 2 if device.dtype == torch.bfloat16 else 4
        quantised = QUANTISED_BYTES.get(device.quantization, number)
        weights = self.in_products * quantised + (self.parameters - self.in_products) * number
        learnt = self.learnt * (ADAM_BYTES - (number if self.full else 0))
        kept = KEPT_BYTES["bfloat16" if device.autocast_bf16 else "float32"] * self.widths
        if self.checkpointing:
            kept = 4 * self.layers * self.width + kept / max(1, self.layers)
        elif device.autocast_bf16 and number == 4:  # a product keeps its weights as it had them, rounded
            weights += 2 * self.in_products
        tile = min(tokens * learnt_share, HEAD_TILE_TOKENS) * min(self.words, HEAD_TILE_WORDS) * HEAD_BYTES[device.kind]
        libraries = 0 if device.kind == "cuda" else LIBRARIES_BYTES
        return libraries + weights + learnt + tokens * kept + tile


def _weight(module: torch.nn.Module | None) -> torch.Tensor | None:
    weight = getattr(module, "weight", None)
    return weight if isinstance(weight, torch.Tensor) else None


def _pace(config: PreTrainedConfig, device: Device) -> float:
    """Return operations a second of a product as wide as the model's, in the training's number format."""
    number = torch.bfloat16 if device.autocast_bf16 else torch.float32
    left = torch.randn(512, config.hidden_size, dtype=number, device=device.kind)
    right = torch.randn(config.hidden_size, 4 * config.hidden_size, dtype=number, device=device.kind)
    started, count = time.monotonic(), 0
    while (passed := time.monotonic() - started) < PROBE_SECONDS or count < 2:
        (left @ right).sum().item()
        count += 1
    return 2.0 * left.shape[0] * right.numel() * count / passed


if __name__ == "__main__":
    answer = main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    sys.stdout.write(json.dumps(answer) + "\n")
