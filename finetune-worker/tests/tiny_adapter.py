"""Make LoRAs with random weights for a base: `python tiny_adapter.py <base folder> <rank> <output folder>...`."""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def make(base: Path, output: Path, seed: int, rank: int) -> None:
    """Write the adapter to `output`; its effect is strong enough to change what the base says."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=8 * rank, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(str(output))


if __name__ == "__main__":
    for index, folder in enumerate(sys.argv[3:]):
        make(Path(sys.argv[1]), Path(folder), index, int(sys.argv[2]))
