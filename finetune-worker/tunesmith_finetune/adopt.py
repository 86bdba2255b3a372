"""Make a folder that training can start from out of a folder of safetensors: the child process of preparing a base.

    python -m tunesmith_finetune.adopt <source> <folder>

The weights are linked, not copied. The tokenizer is written with its special tokens by name, and with what serving does
before a prompt (`add_bos_token`). A base without a chat template gets ChatML as text: its marks are ordinary tokens, so
neither the vocabulary nor the export changes, and the mark that ends a turn is a stop string of what is served. The
folder appears whole.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from tunesmith_finetune.base_models import NOTE
from tunesmith_finetune.whole import write_json

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
CHATML_STOPS = ["<|im_end|>", "<|im_start|>"]
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def main(source: Path, folder: Path) -> None:
    """Prepare `source` into `folder`. Raises `SystemExit` with what cannot be used, and why."""
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    weights = _weights(source, config)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for path in weights:
        _link(path, draft / path.name)
    for name in ("generation_config.json", "tokenizer.model"):
        if (source / name).exists():
            shutil.copyfile(source / name, draft / name)
    write_json(draft / "config.json", _complete(config))
    AutoConfig.from_pretrained(draft)  # what transformers does not know is refused here, before any training
    tokenizer = AutoTokenizer.from_pretrained(source)
    has_template = bool(tokenizer.chat_template)
    if not has_template:
        tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(draft)
    _write_settings(draft, source, tokenizer)
    write_json(draft / NOTE, {"parameters": {} if has_template else {"stop": CHATML_STOPS}})
    draft.rename(folder)


def _weights(source: Path, config: dict[str, Any]) -> list[Path]:
    weights = sorted([*source.glob("*.safetensors"), *source.glob("*.safetensors.index.json")])
    if not any(path.suffix == ".safetensors" for path in weights):
        raise SystemExit(f"{source.name} has no safetensors; other weights could run code and are not read.")
    if "auto_map" in config:
        raise SystemExit(f"{source.name} brings its own code (auto_map), which is not run.")
    return weights


def _complete(config: dict[str, Any]) -> dict[str, Any]:
    """Return `config` with GPT-2's context length under the older name, too, which llama.cpp's converter reads."""
    if config.get("model_type") == "gpt2":
        return {"n_ctx": config.get("n_positions", 1024), **config}
    return config


def _link(source: Path, target: Path) -> None:
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:  # on another file system
        target.symlink_to(real)


def _write_settings(draft: Path, source: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Name the special tokens, and say whether a text begins with one, as the tokenizer itself does it."""
    path = draft / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in ("is_local", "local_files_only"):
        config.pop(name, None)
    given = source / "tokenizer_config.json"
    if given.exists() and (named := json.loads(given.read_text(encoding="utf-8")).get("tokenizer_class")):
        config["tokenizer_class"] = named  # llama.cpp's converter goes by the name that the base came with
    if tokenizer.eos_token is None:
        raise SystemExit(f"{source.name} has no token that ends a text (eos_token), so nothing could learn to stop.")
    for name in SPECIAL_TOKENS:
        config[name] = getattr(tokenizer, name)
    config["pad_token"] = tokenizer.pad_token or tokenizer.eos_token
    ids = tokenizer("a")["input_ids"]
    config["add_bos_token"] = bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    config["add_eos_token"] = False
    write_json(path, config)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
