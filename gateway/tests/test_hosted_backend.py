"""Every dialect for a model on an OpenAI-compatible backend: a gateway before llama.cpp's own HTTP server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest

from tunesmith_shared.testing import Platform, free_port, packaged_model, platform_at

from .llama_server import ALIAS

Json = dict[str, Any]
MODEL = "hosted-smollm2"
KEY = "key-of-the-server"
HELLO: list[Json] = [{"role": "user", "content": "Name an animal."}]
OPTIONS = {"num_predict": 8, "temperature": 0, "seed": 1}
HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook.pdf"


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A gateway and a rag-service; the model is on a server that wants a key and calls it otherwise."""
    port = free_port()
    row = {
        "name": "hosted",
        "kind": "openai",
        "url": f"http://127.0.0.1:{port}",
        "renames": {MODEL: ALIAS},
        "api_key_env": "SERVER_KEY",
        "options": {"top_k": "top_k"},
    }
    settings = {"TUNESMITH_BACKENDS": json.dumps([row]), "SERVER_KEY": KEY, "TUNESMITH_DEFAULT_MODEL": MODEL}
    script = Path(__file__).parent / "llama_server.py"
    command = [sys.executable, str(script), str(packaged_model()), str(port), KEY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"ready\n"
            with platform_at(tmp_path_factory.mktemp("hosted"), **settings) as platform:
                platform.start("rag", "gateway")
                yield platform
        finally:
            server.kill()


@pytest.fixture
def client(hosted: Platform) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {hosted.key}"}
    with httpx.Client(base_url=hosted.url, headers=headers, timeout=120) as client:
        yield client


@pytest.fixture
def native(hosted: Platform) -> Iterator[ollama.Client]:
    with ollama.Client(host=hosted.url, headers={"authorization": f"Bearer {hosted.key}"}) as client:
        yield client


def test_the_openai_client_chats_completes_and_takes_choices(hosted: Platform) -> None:
    with openai.OpenAI(base_url=f"{hosted.url}/v1", api_key=hosted.key, max_retries=0) as gpt:
        assert [model.id for model in gpt.models.list()] == [MODEL]
        ask: Json = {"model": MODEL, "messages": HELLO, "max_completion_tokens": 8, "temperature": 0}
        whole = gpt.chat.completions.create(**ask)
        stream = gpt.chat.completions.create(**ask, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole.choices[0].message.content
        several = gpt.chat.completions.create(**{**ask, "temperature": 1.2, "n": 2})
        assert [choice.index for choice in several.choices] == [0, 1]
        assert several.usage is not None
        assert several.usage.completion_tokens <= 16
        assert gpt.completions.create(model=MODEL, prompt="A cat is", max_tokens=4).choices[0].text
        with pytest.raises(openai.NotFoundError, match=MODEL):
            gpt.chat.completions.create(model="nosuch", messages=[{"role": "user", "content": "x"}])


def test_the_ollama_client_chats_generates_and_lists(native: ollama.Client) -> None:
    assert [model.model for model in native.list().models] == [MODEL]
    assert native.show(MODEL).capabilities == ["completion"]
    whole = native.chat(MODEL, HELLO, options=OPTIONS)
    parts = list(native.chat(MODEL, HELLO, options=OPTIONS, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    last = parts[-1]
    assert (last.done, last.done_reason, last.eval_count) == (True, "length", 8)
    assert last.prompt_eval_count == whole.prompt_eval_count
    assert last.eval_duration
    asked = native.generate(MODEL, HELLO[0]["content"], options={**OPTIONS, "top_k": 1, "num_ctx": 512})
    assert asked.response == whole.message.content
    assert native.generate(MODEL, "").done_reason == "load"


def test_a_schema_holds_and_tools_are_called_in_ollamas_dialect(native: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"animal": {"type": "string"}}, "required": ["animal"]}
    answer = native.chat(MODEL, HELLO, format=schema, options={**OPTIONS, "num_predict": 60})
    assert isinstance(json.loads(answer.message.content or "")["animal"], str)
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]}
    told = {"role": "tool", "content": "rain", "tool_name": "weather"}
    assert native.chat(MODEL, [*HELLO, called, told], options=OPTIONS).message.content


def test_what_the_server_cannot_do_is_said(native: ollama.Client, client: httpx.Client) -> None:
    with pytest.raises(ollama.ResponseError, match=r"hosted.*mirostat") as raised:
        native.chat(MODEL, HELLO, options={"mirostat": 1})
    assert raised.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="keeps models") as raised:
        native.create("parrot", from_=MODEL, system="x")
    assert raised.value.status_code == 501
    answer = client.post("/v1/embeddings", json={"model": MODEL, "input": "x"})
    assert answer.status_code >= 400
    assert answer.json()["error"]["message"]


def test_plain_routes_keep_sessions(client: httpx.Client) -> None:
    body = {"prompt": "My name is Ada.", "session_id": "h-1", "params": {"n_predict": 8, "temp": 0}}
    first = client.post("/generate", json=body).json()
    second = client.post("/generate", json={**body, "prompt": "What is my name?"}).json()
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    assert first["model"] == MODEL
    events = client.post("/agenerate", json={"prompt": "Hi", "max_new_tokens": 4}).text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    chat = {"model": MODEL, "messages": HELLO, "session_id": "h-1", "max_tokens": 4}
    assert client.post("/v1/chat/completions", json=chat).json()["tunesmith"]["omitted_messages"] == 0
    assert len(client.get("/sessions/h-1").json()["messages"]) == 6


def test_self_consistency_and_documents(client: httpx.Client) -> None:
    three = {"self_consistency": {"samples": 3}, "prompt": "Name an animal.", "max_new_tokens": 6, "seed": 1}
    answer = client.post("/generate", json=three).json()
    assert answer["response"] in {candidate["content"] for candidate in answer["candidates"]}
    upload = {"file": (HANDBOOK.name, HANDBOOK.read_bytes())}
    imported = client.post("/importDocument", files=upload, data={"modelName": MODEL})
    assert imported.status_code == 200, imported.text
    grounded = {"prompt": "How much diesel does the fuel tank hold?", "documents": ["handbook.pdf"]}
    told = client.post("/generate", json={**grounded, "max_new_tokens": 24, "temperature": 0}).json()
    assert told["citations"][0]["filename"] == "handbook.pdf"


def test_a_server_that_tells_no_sizes_is_asked_as_one_of_large_models(client: httpx.Client) -> None:
    upload = {"file": (HANDBOOK.name, HANDBOOK.read_bytes())}
    assert client.post("/importDocument", files=upload, data={"modelName": MODEL}).status_code == 200
    body = {"prompt": "How often is the rain gauge calibrated?", "documents": ["handbook.pdf"], "max_new_tokens": 8}
    asked = client.post("/generate", json=body).json()
    assert 0.17 < asked["retrieval"]["evidence"] < 0.71
    assert (asked["retrieval"]["refused"], asked["usage"]["completion_tokens"] > 0) == (False, True)
    strict = client.post("/generate", json={**body, "retrieval": {"threshold": 0.71}}).json()
    assert (strict["retrieval"]["refused"], strict["usage"]["total_tokens"]) == (True, 0)
