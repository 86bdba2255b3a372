"""An engine whose models run in the llama-server that the worker has built: what it answers, and what no model gives.

All of the engine's tests run in one with `TUNESMITH_ENGINE_LLAMA_SERVER=<path> python -m pytest engine/tests`.
"""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ollama
import pytest

from tunesmith_finetune.llama_cpp import LlamaCpp, Toolbox
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_shared.llama_cpp import BFLOAT16_SERVER, QUANTIZE, SERVER, computes_bfloat16, native
from tunesmith_shared.testing import platform_at, wait_for_models

from .conftest import CHAT, EMBEDDING, Engine, write_adapter

BUILD_SECONDS = 3600.0
BFLOAT16 = computes_bfloat16(native())
TEXTS = ["The lighthouse keeper climbs the stairs.", "Salt."]


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> LlamaCpp:
    """llama.cpp's programs in the cache, built by the worker's own code if they are not there."""
    worker = WorkerSettings(data_dir=tmp_path_factory.mktemp("worker"))
    return asyncio.run(Toolbox(worker.cache_dir, worker.llama_cpp_requirements, Limits(None, BUILD_SECONDS)).get())


@pytest.fixture(scope="module")
def real_engine(llama_cpp: LlamaCpp, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("real-llama-server")
    by_default = {"TUNESMITH_ENGINE_LLAMA_SERVER": "", "TUNESMITH_FIRST_MODEL_TYPE": "auto"}
    with platform_at(folder, **by_default) as platform:
        platform.start("engine")
        with contextlib.closing(Engine(platform.services["engine"], folder / "models")) as running:
            wait_for_models(running.url)
            yield running


def test_it_answers_in_streams_and_whole_under_the_models_name(real_engine: Engine) -> None:
    ask = [{"role": "user", "content": "Name the capital of France."}]
    parts = list(real_engine.ollama.chat(CHAT, ask, stream=True, options={"temperature": 0}))
    assert "Paris" in "".join(part.message.content or "" for part in parts)
    assert parts[-1].done_reason == "stop"
    body = {"model": CHAT, "messages": ask, "temperature": 0, "n": 2}
    whole = real_engine.http.post("/v1/chat/completions", json=body).json()
    assert whole["model"] == CHAT
    assert ["Paris" in choice["message"]["content"] for choice in whole["choices"]] == [True, True]
    assert server_of(real_engine, CHAT) == (BFLOAT16_SERVER if BFLOAT16 else SERVER)
    assert server_of(real_engine, EMBEDDING) == SERVER


def server_of(engine: Engine, model: str) -> str:
    """The program that a model runs in."""
    [server] = engine.process_of(model).children()
    return Path(server.exe()).name


@pytest.mark.skipif(not BFLOAT16, reason="this processor does not compute in bfloat16")
def test_in_bfloat16_answers_side_by_side_are_those_of_single_requests(real_engine: Engine) -> None:
    body = {"model": CHAT, "messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 48}
    body |= {"temperature": 0.9, "seed": 7}
    together = real_engine.http.post("/v1/chat/completions", json={**body, "n": 4}).json()["choices"]
    alone = [real_engine.http.post("/v1/chat/completions", json={**body, "seed": 7 + each}).json() for each in range(4)]
    texts = [one["choices"][0]["message"]["content"] for one in alone]
    assert [choice["message"]["content"] for choice in together] == texts
    assert len(set(texts)) > 1


def test_its_vectors_are_those_of_the_library(engine: Engine, real_engine: Engine) -> None:
    own, theirs = (np.array(one.ollama.embed(EMBEDDING, TEXTS).embeddings) for one in (engine, real_engine))
    assert np.sum(own * theirs, axis=1) == pytest.approx(1, abs=1e-3)


def test_an_adapter_and_its_base_share_a_server(real_engine: Engine, tmp_path: Path) -> None:
    digest = real_engine.ollama.create_blob(write_adapter(tmp_path / "a.gguf", "llama"))
    real_engine.ollama.create(model="adapted", from_=CHAT, adapters={"a.gguf": digest})
    plain, changed = (real_engine.say(name, "Once upon", temperature=0, num_predict=8) for name in (CHAT, "adapted"))
    assert plain != changed
    shared = real_engine.process_of("adapted").pid
    assert real_engine.say(CHAT, "Once upon", temperature=0, num_predict=8) == plain
    assert real_engine.process_of(CHAT).pid == shared


def test_a_model_in_half_precision_is_quantised(real_engine: Engine, llama_cpp: LlamaCpp, tmp_path: Path) -> None:
    half = tmp_path / "half.gguf"
    command = (llama_cpp.tool(QUANTIZE), "--allow-requantize", real_engine.show_path(CHAT), str(half), "F16")
    subprocess.run(command, check=True, capture_output=True)
    real_engine.ollama.create(
        model="half", files={"half.gguf": real_engine.ollama.create_blob(half)}, system="Be brief."
    )
    body = {"model": "small", "from": "half", "quantize": "q4_K_M"}
    answered = [json.loads(line) for line in real_engine.http.post("/api/create", json=body).text.splitlines()]
    told = [one["status"] for one in answered]
    assert "quantizing F16 model to Q4_K_M" in told and told[-1] == "success"
    small = real_engine.ollama.show("small")
    assert small.details is not None and small.details.quantization_level == "Q4_K_M"
    assert "Be brief." in (small.modelfile or "")
    sizes = {model.model: model.size or 0 for model in real_engine.ollama.list().models}
    assert sizes["small:latest"] < sizes["half:latest"] / 2
    assert real_engine.say("small", "Once upon a time", num_predict=8)
    assert list((real_engine.models_dir / ".incoming").iterdir()) == []


def test_a_model_that_cannot_be_loaded_gives_llama_cpps_reason(real_engine: Engine) -> None:
    whole = Path(real_engine.show_path(EMBEDDING))
    content = whole.read_bytes()
    whole.unlink()  # a process that reads it keeps it
    whole.write_bytes(content[: len(content) // 2])
    with pytest.raises(ollama.ResponseError, match=r"unable to load model: error loading model: .*not within the file"):
        real_engine.ollama.embed(EMBEDDING, "x", options={"num_thread": 3})
