"""Every family of models, tiny and with random weights: prepared, trained two steps, exported, merged, quantised.

llama.cpp loads what came out, and agrees with PyTorch on the tokens of a prompt and the probabilities of the next one.
"""

import asyncio
import io
import json
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tunesmith_finetune import planning
from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.export import Exporter
from tunesmith_finetune.llama_cpp import Toolbox
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.progress import Reporter
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_finetune.testing import ROWS
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_shared.schemas.jobs import Method
from tunesmith_shared.testing import free_port, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, which training in a child process hides, too

SMALL = {"vocab_size": 49152, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
USUAL = {
    **SMALL, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": USUAL,
    "mistral": {**USUAL, "head_dim": 16, "sliding_window": None},
    "qwen3": {**USUAL, "head_dim": 16},
    "gemma3_text": {**USUAL, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 512},
    "phi": {**USUAL, "num_key_value_heads": 4, "intermediate_size": 256, "tie_word_embeddings": False},
    "gpt2": {**SMALL, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512},
}
"""transformers' names, and sizes. All have SmolLM2's vocabulary, whose rules llama.cpp's converter knows.

Qwen stands here as Qwen 3: a folder of type `qwen2` is read by transformers with Qwen 2's own rules, whatever its
tokenizer's files say, and then the converter knows no other vocabulary than Qwen's.
"""

PROMPT = "<|im_start|>user\nHow do I make tea?<|im_end|>\n<|im_start|>assistant\n"
LIKELIEST = 40


def _make(family: str, sizes: dict[str, Any], tokenizer_of: Path, folder: Path) -> None:
    """Write a base model as people have it: random weights, and a tokenizer without a chat template."""
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415 - slow to import, and needed here alone

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))  # type: ignore[no-untyped-call]
    for parameter in model.parameters():  # larger than usual, so that the next token is not all but arbitrary
        if parameter.dim() == 2:
            parameter.data.normal_(0, 0.08)
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    tokenizer.chat_template = None
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def toolbox(cache_dir: Path) -> Any:
    limits = Limits(None, 3600)
    return asyncio.run(Toolbox(cache_dir, WorkerSettings().llama_cpp_requirements, limits).get())


@contextmanager
def _served(gguf: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    script = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["LLAMA_SERVER"]
    command = [sys.executable, "-c", script, str(gguf), str(port)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )

    def answers() -> bool:
        assert process.poll() is None, f"llama.cpp does not load {gguf.name}"
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, 240, "llama.cpp's server answers")
        yield url
    finally:
        process.kill()
        process.communicate()


def _next_tokens(url: str, ids: list[int]) -> dict[int, float]:
    """The log-probabilities of the likeliest next tokens, as llama.cpp gives them."""
    body = {"prompt": ids, "n_predict": 1, "n_probs": LIKELIEST, "temperature": 1.0, "cache_prompt": False}
    body |= {"ignore_eos": True}  # an end that is drawn would have no probabilities; those of the others stay
    answer = httpx.post(f"{url}/completion", json=body, timeout=120).raise_for_status().json()
    top = answer["completion_probabilities"][0]["top_logprobs"]
    return {entry["id"]: entry["logprob"] for entry in top}


def _train(folder: Path, base: Path, tuning: str) -> list[int]:
    """Train two steps in `folder`; give the ids of the prompt as training sees them."""
    from tunesmith_finetune.train import main  # noqa: PLC0415

    encoder = Encoder(base)
    examples = []
    for index, (asked, answered) in enumerate(ROWS[:4]):
        messages: Any = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        examples.append(Example(row=index, messages=messages, text=None, chosen=None, rejected=None))
    rows = [encoder.encode(example) for example in examples]
    asked_for = {"n_epochs": 1, "batch_size": 2, "lora_rank": 4, "learning_rate": 0.01, "tuning": tuning}
    wanted = Method.model_validate({"supervised": {"hyperparameters": asked_for}}).chosen
    size = planning.measure(rows)
    chosen = planning.choose(wanted, "supervised", size, 512)
    folder.mkdir()
    write_json_lines(folder / "train.tokens.jsonl", rows)
    plan = {"method": "supervised", "base_folder": str(base), "seed": 7, "threads": 1, "report_to": [], "run_name": "m"}
    write_json(folder / "plan.json", {**plan, **planning.training_plan(chosen, size)})
    main(folder, Reporter(io.StringIO()))
    assert json.loads((folder / "training.json").read_text())["steps"] == 2
    return encoder.tokens(PROMPT)


def _log_probabilities(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.train(False)(input_ids=torch.tensor([ids])).logits
    return logits[0, -1].float().log_softmax(-1)


def _assert_alike(served: dict[int, float], trained: torch.Tensor, tolerance: float) -> None:
    assert len(served) == LIKELIEST
    for token, value in served.items():
        assert value == pytest.approx(trained[token].item(), abs=tolerance), token


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_exports_and_serves_alike(family: str, tmp_path: Path, base_folder: Path, toolbox: Any) -> None:
    from tunesmith_finetune.adopt import main as adopt  # noqa: PLC0415

    source, base = tmp_path / family, tmp_path / "prepared"
    _make(family, FAMILIES[family], base_folder, source)
    adopt(source, base)
    ids = _train(tmp_path / "job", base, "lora")
    exporter = Exporter(toolbox, Limits(None, 600), tmp_path / "export.log")

    async def export() -> None:
        await asyncio.gather(
            exporter.base_to_f16(base, tmp_path / "base.gguf"),
            exporter.adapter_to_gguf(tmp_path / "job" / "adapter", base, tmp_path / "adapter.gguf"),
        )
        await exporter.merge(tmp_path / "base.gguf", tmp_path / "adapter.gguf", tmp_path / "merged.gguf")
        await exporter.quantise(tmp_path / "merged.gguf", tmp_path / "q8.gguf", "Q8_0", None)

    asyncio.run(export())
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = _log_probabilities(plain, ids)
    after = _log_probabilities(PeftModel.from_pretrained(plain, tmp_path / "job" / "adapter"), ids)
    moved = (after - before).abs().max().item()
    assert moved > 0.2, "two steps must change what is compared"
    with _served(tmp_path / "merged.gguf") as url:
        body = {"content": PROMPT, "add_special": False, "parse_special": True}
        assert httpx.post(f"{url}/tokenize", json=body).json()["tokens"] == ids
        _assert_alike(_next_tokens(url, ids), after, 0.05)
    with _served(tmp_path / "q8.gguf") as url:
        assert all(math.isfinite(value) for value in _next_tokens(url, ids).values())


def test_a_model_whose_weights_were_all_learnt_is_converted_whole(
    tmp_path: Path, base_folder: Path, toolbox: Any
) -> None:
    from tunesmith_finetune.adopt import main as adopt  # noqa: PLC0415

    source, base = tmp_path / "gpt2", tmp_path / "prepared"
    _make("gpt2", FAMILIES["gpt2"], base_folder, source)
    adopt(source, base)
    ids = _train(tmp_path / "job", base, "full")
    exporter = Exporter(toolbox, Limits(None, 600), tmp_path / "export.log")
    asyncio.run(exporter.base_to_f16(tmp_path / "job" / "adapter", tmp_path / "model.gguf"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "job" / "adapter", dtype=torch.float32)
    with _served(tmp_path / "model.gguf") as url:
        _assert_alike(_next_tokens(url, ids), _log_probabilities(model, ids), 0.05)
