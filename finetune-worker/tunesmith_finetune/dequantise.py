"""Make a folder that training can start from out of a GGUF file: the child process of preparing a base model.

    python -m tunesmith_finetune.dequantise <model.gguf> <folder>

Writes half-precision safetensors (the same numbers as the f16 GGUF that adapters are merged into), the configuration,
the tokenizer and the chat template. The folder appears whole.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunesmith_finetune.gguf_model import load_gguf, read_once


def main(path: Path, folder: Path) -> None:
    """Dequantise the GGUF at `path` into `folder`."""
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    with read_once():
        model = load_gguf(path, torch.float16)
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        metadata = _tokenizer_metadata(path)
    model.config.name_or_path = folder.name
    model.save_pretrained(draft)
    split_like_llama_cpp(tokenizer.backend_tokenizer, metadata["tokenizer.ggml.pre"])
    tokenizer.chat_template = metadata["tokenizer.chat_template"]
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(draft)
    _use_own_settings(draft / "tokenizer_config.json", tokenizer)
    draft.rename(folder)


def split_like_llama_cpp(tokenizer: Tokenizer, kind: str) -> None:
    """Let `tokenizer` cut text into words as llama.cpp does for the pre-tokenizer `kind`.

    What transformers derives from a GGUF leaves runs of digits together, where SmolLM's vocabulary was learnt on single
    digits. Raises `ValueError` for a kind whose rules are not known to agree.
    """
    if kind in ALREADY_ALIKE:
        return
    if kind != "smollm":
        raise ValueError(f"nobody has checked that the pre-tokenizer {kind!r} splits text as llama.cpp does")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )


ALREADY_ALIKE = ("llama-bpe", "qwen2")


def _tokenizer_metadata(path: Path) -> dict[str, Any]:
    fields = gguf.GGUFReader(str(path)).fields
    return {name: fields[name].contents() for name in ("tokenizer.ggml.pre", "tokenizer.chat_template")}


def _use_own_settings(path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Drop what only says how this tokenizer was loaded, and name the special tokens."""
    config = json.loads(path.read_text())
    for name in ("is_local", "local_files_only"):
        config.pop(name, None)
    config.update({name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")})
    path.write_text(json.dumps(config, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
