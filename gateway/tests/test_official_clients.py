"""API.md's chat, completion, embedding and model routes with the clients that people use, on the real model."""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import ollama
import openai
import pytest
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall

from tunesmith_shared.testing import Platform

from .packaged import write_model_with_tools

Json = dict[str, Any]
MODEL, EMBEDDER = "smollm2:135m", "all-minilm"
HELLO: list[Any] = [{"role": "user", "content": "Name an animal."}]
PARAMETERS: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Json = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather of a city.", "parameters": PARAMETERS},
}


@pytest.fixture(scope="module")
def gpt(platform: Platform) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def native(platform: Platform) -> Iterator[ollama.Client]:
    with ollama.Client(host=platform.url, headers={"authorization": f"Bearer {platform.key}"}) as client:
        yield client


@pytest.fixture(scope="module")
def tool_model(native: ollama.Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose template has a place for tools, uploaded through the gateway."""
    path = tmp_path_factory.mktemp("tools") / "tools.gguf"
    write_model_with_tools(path)
    native.create("with-tools", files={path.name: native.create_blob(path)}, parameters={"temperature": 0})
    path.unlink()
    return "with-tools"


def test_chat_logprobs_usage_and_the_two_names_of_the_limit(gpt: openai.OpenAI) -> None:
    ask: Json = {"model": MODEL, "messages": HELLO, "temperature": 0, "seed": 1}
    whole = gpt.chat.completions.create(**ask, max_completion_tokens=5, logprobs=True, top_logprobs=2)
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 5
    assert whole.choices[0].finish_reason == "length"
    scores = whole.choices[0].logprobs
    assert scores is not None
    assert scores.content is not None
    assert "".join(score.token for score in scores.content) == whole.choices[0].message.content
    assert all(score.logprob <= 0 and len(score.top_logprobs) == 2 for score in scores.content)
    older = gpt.chat.completions.create(**ask, max_tokens=5)
    assert older.choices[0].message.content == whole.choices[0].message.content
    chunks = list(gpt.chat.completions.create(**ask, max_tokens=5, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens <= 5
    plain = list(gpt.chat.completions.create(**ask, max_tokens=5, stream=True))
    assert all(chunk.choices for chunk in plain)


def test_stop_and_json_output(gpt: openai.OpenAI) -> None:
    counting: list[Any] = [{"role": "user", "content": "Count: one, two, three, four, five, six."}]
    said = gpt.chat.completions.create(model=MODEL, messages=counting, max_tokens=60, temperature=0, stop=["three"])
    assert "three" not in (said.choices[0].message.content or "")
    schema: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": PARAMETERS, "strict": True}}
    create = gpt.chat.completions.create
    held = create(model=MODEL, messages=HELLO, response_format=schema, max_tokens=80, temperature=0)
    assert json.loads(held.choices[0].message.content or "")["city"] in ("Oslo", "Rome")
    anything: Any = {"type": "json_object"}
    begun = create(model=MODEL, messages=HELLO, response_format=anything, max_tokens=20, temperature=0)
    assert (begun.choices[0].message.content or "").lstrip().startswith("{")


def test_a_tool_is_called_whole_and_streamed_and_its_result_answered(gpt: openai.OpenAI, tool_model: str) -> None:
    question: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    ask: Json = {
        "model": tool_model,
        "messages": question,
        "tools": [TOOL],
        "tool_choice": "required",
        "max_tokens": 80,
        "temperature": 0,
    }
    message = gpt.chat.completions.create(**ask).choices[0].message
    assert message.tool_calls
    call = message.tool_calls[0]
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    pieces = ""
    for chunk in gpt.chat.completions.create(**ask, stream=True):
        for part in (chunk.choices[0].delta.tool_calls or ()) if chunk.choices else ():
            pieces += part.function.arguments or "" if part.function else ""
    assert pieces == call.function.arguments
    told: list[Any] = [message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "It rains."}]
    answer = gpt.chat.completions.create(model=tool_model, messages=[*question, *told], max_tokens=8)
    assert answer.choices[0].message.content


def test_completions_with_text_tokens_and_logprobs(gpt: openai.OpenAI) -> None:
    ask: Json = {"model": MODEL, "max_tokens": 4, "temperature": 0, "seed": 1}
    text = gpt.completions.create(**ask, prompt="A cat is", logprobs=1).choices[0]
    assert text.logprobs is not None
    assert gpt.completions.create(**ask, prompt=[100, 200, 300]).choices[0].text
    streamed = "".join(part.choices[0].text for part in gpt.completions.create(**ask, prompt="A cat is", stream=True))
    assert streamed == text.text
    several = gpt.completions.create(**ask, prompt="A cat is", n=2)
    assert [choice.index for choice in several.choices] == [0, 1]


def test_embeddings_in_every_form(gpt: openai.OpenAI) -> None:
    create = gpt.embeddings.create
    plain = create(model=EMBEDDER, input="A cat", encoding_format="float").data[0].embedding
    coded = gpt.post(
        "/embeddings", body={"model": EMBEDDER, "input": "A cat", "encoding_format": "base64"}, cast_to=object
    )
    assert isinstance(coded, dict)
    raw = base64.b64decode(coded["data"][0]["embedding"])
    assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(plain, abs=1e-6)
    lists = create(model=EMBEDDER, input=[[101, 1037, 4937, 102], [101, 3899, 102]]).data
    assert [entry.index for entry in lists] == [0, 1]
    one = create(model=EMBEDDER, input=[101, 1037, 4937, 102])
    assert (len(one.data), one.usage.prompt_tokens) == (1, 4)
    short = create(model=EMBEDDER, input="A cat", dimensions=64).data[0].embedding
    assert len(short) == 64
    assert sum(value * value for value in short) == pytest.approx(1, abs=1e-4)
    with pytest.raises(openai.APIStatusError):
        create(model=MODEL, input="x")


def test_the_ollama_clients_other_routes(native: ollama.Client) -> None:
    options: Json = {"num_predict": 6, "temperature": 0, "seed": 1}
    whole = native.generate(MODEL, "A cat is", options=options)
    parts = list(native.generate(MODEL, "A cat is", options=options, stream=True))
    assert "".join(part.response or "" for part in parts) == whole.response
    assert parts[-1].eval_count == whole.eval_count
    assert MODEL in {model.model for model in native.ps().models}
    assert len(native.embed(EMBEDDER, ["a", "b"]).embeddings) == 2
    assert len(native.embeddings(EMBEDDER, "a").embedding) == 384
    answer = native.chat(MODEL, HELLO, format=PARAMETERS, options={**options, "num_predict": 40})
    assert json.loads(answer.message.content or "")["city"] in ("Oslo", "Rome")
    shown = native.show(MODEL)
    assert shown.details is not None
    assert shown.details.family == "llama"
    with pytest.raises(ollama.ResponseError) as raised:
        native.chat("nosuch", HELLO)
    assert raised.value.status_code == 404


def test_langchains_chat_openai(platform: Platform) -> None:
    model = ChatOpenAI(
        base_url=f"{platform.url}/v1", api_key=platform.key, model=MODEL, temperature=0, max_completion_tokens=6
    )
    with closing(model.root_client):
        whole = model.invoke("Name an animal.")
        assert whole.text
        assert whole.usage_metadata is not None
        assert whole.usage_metadata["output_tokens"] <= 6
        assert "".join(chunk.text for chunk in model.stream("Name an animal.")) == whole.text


def test_langchains_chat_ollama(platform: Platform) -> None:
    headers = {"headers": {"authorization": f"Bearer {platform.key}"}}
    model = ChatOllama(base_url=platform.url, model=MODEL, temperature=0, num_predict=6, client_kwargs=headers)
    with model._client:
        whole = model.invoke("Name an animal.")
        assert whole.text
        assert "".join(chunk.text for chunk in model.stream("Name an animal.")) == whole.text


def test_a_prompt_that_is_too_long_is_refused_and_nothing_is_cut(gpt: openai.OpenAI, platform: Platform) -> None:
    text = "word " * 6000
    said: list[Any] = [{"role": "user", "content": text}]

    def refused(ask: Callable[..., Any], **wanted: Any) -> None:
        with pytest.raises(openai.BadRequestError, match=r"has \d+ tokens and the context holds \d+") as raised:
            ask(**wanted)
        assert raised.value.code == "context_length_exceeded"

    refused(gpt.chat.completions.create, model=MODEL, messages=said)
    refused(gpt.chat.completions.create, model=MODEL, messages=said, stream=True)
    refused(gpt.chat.completions.create, model=MODEL, messages=said, n=2)
    refused(gpt.completions.create, model=MODEL, prompt=text)
    refused(gpt.embeddings.create, model=EMBEDDER, input=["short", text])
    headers = {"authorization": f"Bearer {platform.key}"}
    plain = httpx.post(f"{platform.url}/generate", headers=headers, json={"prompt": text}, timeout=60)
    assert (plain.status_code, plain.json()["error"]["code"]) == (400, "context_length_exceeded")
