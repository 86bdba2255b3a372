"""Ollama's generate and chat with the official client, streamed and whole, and every refusal."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import ollama
import pytest

from .conftest import CHAT, EMBEDDING, Engine

EXACT = {"temperature": 0, "seed": 1}
QUESTION = {"role": "user", "content": "Name the capital of France."}


def test_generate_answers_and_ends_by_itself(engine: Engine) -> None:
    answer = engine.ollama.generate(CHAT, "Name the capital of France.", options=EXACT)
    assert "Paris" in (answer.response or "")
    assert "<|im" not in (answer.response or "")
    assert answer.done
    assert answer.done_reason == "stop"
    assert answer.prompt_eval_count is not None
    assert answer.prompt_eval_count > 20, "the chat template was not applied"
    assert answer.eval_count is not None
    assert 3 < answer.eval_count < 60


def test_a_stream_is_the_same_text_in_pieces(engine: Engine) -> None:
    whole = engine.ollama.chat(CHAT, [QUESTION], options=EXACT)
    parts = list(engine.ollama.chat(CHAT, [QUESTION], options=EXACT, stream=True))
    assert len(parts) > 3
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    last = parts[-1]
    assert last.done_reason == "stop"
    assert last.message.content == ""
    for duration in (last.total_duration, last.load_duration, last.prompt_eval_duration, last.eval_duration):
        assert duration is not None
        assert duration > 0
    assert last.eval_count is not None
    assert last.eval_count >= len(parts) - 1


def test_the_stream_is_ndjson_whatever_the_content_type_of_the_body(engine: Engine) -> None:
    body = json.dumps({"model": CHAT, "prompt": "Hi", "options": {"num_predict": 2}})
    form = {"content-type": "application/x-www-form-urlencoded"}
    response = engine.http.post("/api/generate", content=body, headers=form)
    assert response.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [line["done"] for line in lines] == [False, False, True]
    assert lines[-1]["done_reason"] == "length"
    assert lines[-1]["eval_count"] == 2


def test_a_seed_repeats_an_answer_and_another_one_changes_it(engine: Engine) -> None:
    def say(seed: int) -> str:
        return engine.say(CHAT, "Invent a name for a boat.", seed=seed, temperature=1.5, num_predict=24)

    assert say(7) == say(7)
    assert len({say(seed) for seed in range(3)}) > 1


def test_stop_ends_before_the_stop_text(engine: Engine) -> None:
    whole = engine.ollama.generate(CHAT, "Once upon a time", raw=True, options={**EXACT, "num_predict": 24})
    assert whole.done_reason == "length"
    text = whole.response or ""
    word = text.split()[3]
    cut = engine.ollama.generate(
        CHAT, "Once upon a time", raw=True, options={**EXACT, "num_predict": 24, "stop": [word]}
    )
    assert cut.done_reason == "stop"
    assert cut.response == text.split(word)[0]


def test_raw_sends_the_prompt_as_it_is(engine: Engine) -> None:
    answer = engine.ollama.generate(CHAT, "Once upon a time", raw=True, options={**EXACT, "num_predict": 4})
    assert answer.prompt_eval_count == 4


def test_format_json_and_schema_bind_the_answer(engine: Engine) -> None:
    schema = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
    chat = engine.ollama.chat(CHAT, [QUESTION], format=schema, options={**EXACT, "num_predict": 40})
    assert isinstance(json.loads(chat.message.content or "")["year"], int)
    generated = engine.ollama.generate(CHAT, "Count: 1", raw=True, format=schema, options={**EXACT, "num_predict": 40})
    assert isinstance(json.loads(generated.response or "")["year"], int)
    loose = engine.ollama.chat(CHAT, [QUESTION], format="json", options={**EXACT, "num_predict": 24})
    assert (loose.message.content or "").lstrip().startswith("{")


def test_the_systems_message_reaches_the_model(engine: Engine) -> None:
    system = "You are a pirate. You always say Arrr."
    plain = engine.ollama.generate(CHAT, "Who are you?", options={**EXACT, "num_predict": 20})
    pirate = engine.ollama.generate(CHAT, "Who are you?", system=system, options={**EXACT, "num_predict": 20})
    assert plain.response != pirate.response


def test_an_empty_prompt_loads_and_keep_alive_zero_unloads(engine: Engine) -> None:
    engine.ollama.create(model="kept", from_=CHAT, parameters={"num_ctx": 300})
    loaded = engine.ollama.generate("kept", "")
    assert (loaded.done_reason, loaded.response) == ("load", "")
    [shown] = [model for model in engine.ollama.ps().models if model.name == "kept:latest"]
    assert shown.context_length == 512
    assert shown.expires_at is not None

    unloaded = engine.ollama.chat("kept", [], keep_alive=0)
    assert unloaded.done_reason == "unload"
    assert "kept:latest" not in [model.name for model in engine.ollama.ps().models]
    engine.ollama.delete("kept")


def test_a_long_chat_loses_its_oldest_messages_by_default(engine: Engine) -> None:
    history = [{"role": "user", "content": f"Note {i}: " + "the sky is blue " * 40} for i in range(4)]
    options = {**EXACT, "num_ctx": 256, "num_predict": 8}
    answer = engine.ollama.chat(CHAT, [*history, QUESTION], options=options)
    assert answer.prompt_eval_count is not None
    assert 30 < answer.prompt_eval_count < 256


def test_a_long_prompt_is_cut_in_its_middle_by_default(engine: Engine) -> None:
    prompt = "word " * 800
    options = {**EXACT, "num_ctx": 256, "num_predict": 8}
    for raw in (False, True):
        answer = engine.ollama.generate(CHAT, prompt, raw=raw, options=options)
        assert answer.prompt_eval_count is not None
        assert 100 < answer.prompt_eval_count < 256


@pytest.mark.parametrize("field", ["truncate", "shift"])
def test_truncate_or_shift_off_refuses_a_long_prompt_with_both_numbers(engine: Engine, field: str) -> None:
    body = {"model": CHAT, "prompt": "word " * 800, "options": {"num_ctx": 256}, field: False}
    response = engine.http.post("/api/generate", json=body)
    assert response.status_code == 400
    assert "256" in response.json()["error"]
    assert "8" in response.json()["error"]


def test_shift_lets_an_answer_go_past_the_context_and_its_absence_ends_it(engine: Engine) -> None:
    body = {
        "model": CHAT,
        "prompt": "word " * 220,
        "raw": True,
        "stream": False,
        "format": {"type": "string", "minLength": 2000},  # so that the model cannot end by itself
        "options": {"num_ctx": 256, "num_predict": 60, "temperature": 1, "seed": 3},
    }
    shifted = engine.http.post("/api/generate", json=body).json()
    stayed = engine.http.post("/api/generate", json={**body, "shift": False}).json()
    assert stayed["done_reason"] == "length"
    assert stayed["eval_count"] + stayed["prompt_eval_count"] <= 256
    assert shifted["eval_count"] == 60
    assert shifted["eval_count"] + shifted["prompt_eval_count"] > 256


def test_logprobs_come_with_the_tokens_whole_and_streamed(engine: Engine) -> None:
    few = {**EXACT, "num_predict": 5}
    whole = engine.ollama.chat(CHAT, [QUESTION], options=few, logprobs=True, top_logprobs=2)
    parts = list(engine.ollama.chat(CHAT, [QUESTION], options=few, logprobs=True, top_logprobs=2, stream=True))
    assert whole.logprobs is not None
    assert "".join(entry.token for entry in whole.logprobs) == whole.message.content
    assert [entry for part in parts for entry in part.logprobs or ()] == list(whole.logprobs)
    for entry in whole.logprobs:
        assert entry.top_logprobs is not None
        assert entry.top_logprobs[0].token == entry.token, "temperature 0 takes the best"
        assert len(entry.top_logprobs) == 2
        assert entry.logprob <= 0
    raw = engine.ollama.generate(CHAT, "Once upon a", raw=True, options=few, logprobs=True)
    assert len(raw.logprobs or ()) == 5


def test_a_context_goes_on_with_the_conversation_that_it_came_from(engine: Engine) -> None:
    few = {**EXACT, "num_predict": 12}
    first = engine.ollama.generate(CHAT, "My name is Ada.", options=few)
    assert first.context is not None
    assert first.prompt_eval_count is not None
    assert len(first.context) == first.prompt_eval_count + 12
    second = engine.ollama.generate(CHAT, "What is my name?", context=first.context, options=few)
    assert second.prompt_eval_count is not None
    assert second.prompt_eval_count > len(first.context)
    assert second.context is not None
    assert list(second.context[: len(first.context)]) == list(first.context)
    assert engine.ollama.generate(CHAT, "Once", raw=True, options=few).context is None


@pytest.mark.parametrize(
    ("keep_alive", "seconds"), [(90, (60, 90)), ("2m", (90, 120)), ("1h30m", (5000, 5400)), (-1, (1e9, 1e11))]
)
def test_keep_alive_says_how_long_a_model_stays(
    engine: Engine, keep_alive: str | int, seconds: tuple[float, float]
) -> None:
    engine.ollama.generate(CHAT, "", keep_alive=keep_alive)
    shown = engine.http.get("/api/ps").json()["models"][0]  # the most recently used
    assert shown["name"] == CHAT
    remaining = (datetime.fromisoformat(shown["expires_at"]) - datetime.now(UTC)).total_seconds()
    assert seconds[0] < remaining <= seconds[1]
    assert {"name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length"} <= set(shown)


ELSEWHERE = {"model": "example.org/a/b"}
REFUSALS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "unknown model": ("/api/chat", {"model": "nosuch", "messages": [QUESTION]}, 404, "model 'nosuch' not found"),
    "impossible name": ("/api/generate", {"model": "../x", "prompt": "x"}, 404, "model '../x' not found"),
    "no model": ("/api/generate", {"prompt": "x"}, 404, "model '' not found"),
    "no model to chat with": ("/api/chat", {"messages": [QUESTION]}, 400, "model is required"),
    "no model to embed with": ("/api/embed", {"input": "x"}, 404, "model '' not found"),
    "no model for one vector": ("/api/embeddings", {"prompt": "x"}, 400, "model is required"),
    "option type": (
        "/api/generate",
        {"model": CHAT, "prompt": "x", "options": {"temperature": "hot"}},
        500,
        'option "temperature" must be of type float32',
    ),
    "stop type": (
        "/api/generate",
        {"model": CHAT, "prompt": "x", "options": {"stop": "a"}},
        500,
        'option "stop" must be of type array',
    ),
    "format text": ("/api/generate", {"model": CHAT, "prompt": "x", "format": "xml"}, 500, "invalid format"),
    "bad schema": ("/api/chat", {"model": CHAT, "messages": [QUESTION], "format": {"type": "bogus"}}, 400, "bogus"),
    "suffix": (
        "/api/generate",
        {"model": CHAT, "prompt": "x", "suffix": "y"},
        400,
        "registry.ollama.ai/library/smollm2:135m does not support insert",
    ),
    "raw and system": (
        "/api/generate",
        {"model": CHAT, "prompt": "x", "raw": True, "system": "y"},
        400,
        "raw mode does not support template, system, or context",
    ),
    "logprobs": (
        "/api/chat",
        {"model": CHAT, "messages": [QUESTION], "logprobs": True, "top_logprobs": 21},
        400,
        "top_logprobs must be between 0 and 20",
    ),
    "keep_alive": ("/api/generate", {"model": CHAT, "keep_alive": "soon"}, 400, "invalid duration"),
    "tools": ("/api/chat", {"model": CHAT, "messages": [QUESTION], "tools": [{}]}, 400, "does not support tools"),
    "think": ("/api/chat", {"model": CHAT, "messages": [QUESTION], "think": True}, 400, "does not support thinking"),
    "role": ("/api/chat", {"model": CHAT, "messages": [{"role": "king", "content": "x"}]}, 400, "messages[0].role"),
    "images": ("/api/generate", {"model": CHAT, "prompt": "x", "images": ["aGk="]}, 400, "images"),
    "chat with an embedding model": (
        "/api/chat",
        {"model": EMBEDDING, "messages": [QUESTION]},
        400,
        '"all-minilm" does not support chat',
    ),
    "generate with an embedding model": (
        "/api/generate",
        {"model": EMBEDDING, "prompt": "x"},
        400,
        '"all-minilm" does not support generate',
    ),
    "pull from anywhere": ("/api/pull", ELSEWHERE, 400, "models of example.org are not fetched here"),
    "pull without TLS": ("/api/pull", {"model": "http://registry.ollama.ai/a/b"}, 400, "insecure protocol http"),
    "pull without a name": ("/api/pull", {}, 400, "invalid model name"),
    "push to anywhere": ("/api/push", ELSEWHERE, 400, "models of example.org are not published here"),
    "push without TLS": ("/api/push", {"model": "http://registry.ollama.ai/a/b"}, 400, "insecure protocol http"),
    "push of an unknown model": ("/api/push", {"model": "someone/nosuch"}, 404, "model 'someone/nosuch' not found"),
    "show without a name": ("/api/show", {}, 400, "model is required"),
    "show of an unknown model": ("/api/show", {"name": "nosuch"}, 404, "model 'nosuch' not found"),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("stream", [True, False])
def test_what_cannot_be_done_is_refused_as_ollama_does(engine: Engine, case: str, stream: bool) -> None:
    path, body, status, text = REFUSALS[case]
    response = engine.http.post(path, json={**body, "stream": stream})
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert text in response.json()["error"]


@pytest.mark.parametrize(
    ("content", "text"), [(b"", "missing request body"), (b"{", "JSON"), (b'{"model": 1}', "model")]
)
def test_a_body_that_is_none_is_refused(engine: Engine, content: bytes, text: str) -> None:
    response = engine.http.post("/api/chat", content=content)
    assert response.status_code == 400
    assert text in response.json()["error"]


def test_the_clients_error_type_carries_status_and_text(engine: Engine) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nosuch' not found") as caught:
        engine.ollama.chat("nosuch", [QUESTION])
    assert caught.value.status_code == 404


def test_the_root_says_that_it_is_there(engine: Engine) -> None:
    assert engine.http.get("/").text == "Ollama is running"
    for path in ("/", "/api/version", "/api/tags"):
        assert engine.http.head(path).status_code == httpx.codes.OK
    assert engine.http.get("/health").json()["status"] == "OK"
