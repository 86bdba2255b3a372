"""OpenAI's routes with the official client."""

import base64
import json

import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from .conftest import CHAT, EMBEDDING, Engine

QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "Name the capital of France."}


def test_chat_answers_under_the_asked_name(engine: Engine) -> None:
    engine.ollama.copy(CHAT, "Alias")
    answer = engine.openai.chat.completions.create(model="Alias", messages=[QUESTION], temperature=0)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert (answer.model, answer.object, answer.choices[0].finish_reason) == ("Alias", "chat.completion", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    engine.ollama.delete("Alias")


def test_chat_streams_chunks_with_usage_when_asked(engine: Engine) -> None:
    stream = engine.openai.chat.completions.create(
        model=CHAT,
        messages=[QUESTION],
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert {chunk.model for chunk in chunks} == {CHAT}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 2


def test_a_stream_ends_with_done_and_has_no_usage_unasked(engine: Engine) -> None:
    body = {"model": CHAT, "messages": [QUESTION], "stream": True, "max_tokens": 3}
    response = engine.http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    assert all("usage" not in json.loads(event) for event in events[:-1])


def test_limits_stop_seed_and_logprobs(engine: Engine) -> None:
    create = engine.openai.chat.completions.create
    short = create(model=CHAT, messages=[QUESTION], max_completion_tokens=3, logprobs=True, top_logprobs=2)
    assert short.choices[0].finish_reason == "length"
    assert short.choices[0].logprobs is not None
    assert len(short.choices[0].logprobs.content or []) == 3
    stopped = create(model=CHAT, messages=[QUESTION], temperature=0, stop="France")
    assert "France" not in (stopped.choices[0].message.content or "")
    answers = {
        create(model=CHAT, messages=[QUESTION], seed=5, max_tokens=12).choices[0].message.content for _ in range(2)
    }
    assert len(answers) == 1


def test_response_format_binds_the_answer(engine: Engine) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
    answer = engine.openai.chat.completions.create(
        model=CHAT,
        messages=[QUESTION],
        temperature=0,
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "year", "schema": schema}},
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["year"], int)


def test_completions_take_text_and_tokens(engine: Engine) -> None:
    text = engine.openai.completions.create(model=CHAT, prompt="Once upon a time", max_tokens=4, temperature=0)
    assert text.usage is not None
    assert (text.usage.prompt_tokens, text.usage.completion_tokens, text.model) == (4, 4, CHAT)
    tokens = engine.openai.completions.create(model=CHAT, prompt=[[12, 13]], max_tokens=2)
    assert tokens.usage is not None
    assert tokens.usage.prompt_tokens == 2
    chunks = list(engine.openai.completions.create(model=CHAT, prompt="Once", max_tokens=3, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"


def test_long_prompts_are_cut_unless_refused(engine: Engine) -> None:
    engine.ollama.create(model="narrow", from_=CHAT, parameters={"num_ctx": 256})
    long: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "word " * 600}]
    answer = engine.openai.chat.completions.create(model="narrow", messages=long, max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens < 256
    with pytest.raises(openai.BadRequestError) as caught:
        engine.openai.chat.completions.create(model="narrow", messages=long, extra_body={"truncate": False})
    assert caught.value.code == "context_length_exceeded"
    engine.ollama.delete("narrow")


def test_embeddings_as_floats_base64_tokens_and_fewer_dimensions(engine: Engine) -> None:
    create = engine.openai.embeddings.create
    floats = create(model=EMBEDDING, input=["hello world", "bye"], encoding_format="float")
    assert [item.index for item in floats.data] == [0, 1]
    vector = np.array(floats.data[0].embedding)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)

    raw = engine.http.post(
        "/v1/embeddings", json={"model": EMBEDDING, "input": "hello world", "encoding_format": "base64"}
    )
    decoded = np.frombuffer(base64.b64decode(raw.json()["data"][0]["embedding"]), dtype="<f4")
    assert np.allclose(decoded, vector, atol=1e-4)

    tokens = create(model=EMBEDDING, input=[[101, 7592, 2088, 102]])
    assert np.allclose(tokens.data[0].embedding, vector, atol=1e-4)
    assert tokens.usage.prompt_tokens == 4

    short = np.array(create(model=EMBEDDING, input="hello world", dimensions=8).data[0].embedding)
    assert np.allclose(short, vector[:8] / np.linalg.norm(vector[:8]), atol=1e-4)
    with pytest.raises(openai.BadRequestError, match="between 1 and 384"):
        create(model=EMBEDDING, input="x", dimensions=385)
    with pytest.raises(openai.APIStatusError) as caught:
        create(model=CHAT, input="x")
    assert caught.value.status_code == 501


def test_models_are_listed_and_found(engine: Engine) -> None:
    assert {CHAT, "all-minilm:latest"} <= {model.id for model in engine.openai.models.list().data}
    assert engine.openai.models.retrieve(CHAT).id == CHAT
    with pytest.raises(openai.NotFoundError):
        engine.openai.models.retrieve("nosuch")


def test_an_unknown_model_has_openais_error(engine: Engine) -> None:
    response = engine.http.post("/v1/chat/completions", json={"model": "nosuch", "messages": [QUESTION]})
    assert response.status_code == 404
    expected = {"message": "model 'nosuch' not found", "type": "not_found_error", "param": None, "code": None}
    assert response.json() == {"error": expected}
    assert engine.http.post("/v1/chat/completions", json={"model": CHAT, "messages": []}).status_code == 400
    unnamed = engine.http.post("/v1/chat/completions", json={"messages": [QUESTION]})
    assert (unnamed.status_code, unnamed.json()["error"]["message"]) == (400, "model is required")


def test_a_suffix_is_refused_as_ollama_refuses_it_where_a_model_cannot_fill_in(engine: Engine) -> None:
    with pytest.raises(openai.BadRequestError, match="library/smollm2:135m does not support insert"):
        engine.openai.completions.create(model=CHAT, prompt="x", suffix="y")
