"""Put a tiny base model into a cache where the real one would be: `python tiny_base.py <prepared base> <folder>`.

It is a Llama with random weights and the tokenizer, chat template and export of the real base, so every step of a job
does what it always does, in a fraction of the time. What such a model says is noise.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def make(prepared: Path, folder: Path) -> None:
    """Write the tiny base to `folder`."""
    shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.index.json"))
    config = LlamaConfig.from_pretrained(prepared)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 64, 128, 2
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 16
    config.tie_word_embeddings = True
    torch.manual_seed(7)
    LlamaForCausalLM(config).half().save_pretrained(folder)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
