"""Tool calls, by the small model under a template that has a place for tools and after examples that it can follow."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import CHAT, Engine

TEMPLATE = """{%if tools%}<|im_start|>system
Tools: {{tools|tojson}}<|im_end|>
{%endif%}{%for m in messages%}<|im_start|>{{m.role}}
{{m.content or ''}}{%for c in m.tool_calls or []%}
<tool_call>
{"name": "{{c.function.name}}", "arguments": {{c.function.arguments|tojson}}}
</tool_call>{%endfor%}<|im_end|>
{%endfor%}{%if add_generation_prompt%}<|im_start|>assistant
{%endif%}"""
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "The weather of a city", "parameters": PARAMETERS}
WEATHER: dict[str, Any] = {"type": "function", "function": FUNCTION}


def _question(city: str) -> dict[str, Any]:
    return {"role": "user", "content": f"What is the weather in {city}?"}


def _example(city: str) -> list[dict[str, Any]]:
    call = {"function": {"name": "weather", "arguments": {"city": city}}}
    return [
        _question(city),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "Sunny", "tool_name": "weather"},
        {"role": "assistant", "content": "It is sunny."},
    ]


HISTORY = [*_example("Rome"), *_example("Oslo"), *_example("Lima"), _question("Paris")]


@pytest.fixture(scope="module")
def tool_model(engine: Engine) -> str:
    """The small model with another chat template of the same length, so that nothing in the file moves."""
    content = Path(engine.show_path(CHAT)).read_bytes()
    key = b"tokenizer.chat_template"
    at = content.index(key) + len(key) + 4
    length = int.from_bytes(content[at : at + 8], "little")
    template = TEMPLATE.encode() + b"{#" + b" " * (length - len(TEMPLATE) - 4) + b"#}"
    assert len(template) == length
    digest = engine.upload(content[: at + 8] + template + content[at + 8 + length :])
    engine.ollama.create(model="tools", files={"tools.gguf": digest}, parameters={"temperature": 0, "num_predict": 60})
    return "tools"


def test_show_lists_the_capability(engine: Engine, tool_model: str) -> None:
    assert engine.ollama.show(tool_model).capabilities == ["completion", "tools"]


def test_a_call_has_parsed_arguments_whole_and_streamed(engine: Engine, tool_model: str) -> None:
    whole = engine.ollama.chat(tool_model, HISTORY, tools=[WEATHER])
    parts = list(engine.ollama.chat(tool_model, HISTORY, tools=[WEATHER], stream=True))
    streamed = [call for part in parts for call in part.message.tool_calls or []]
    for [call] in (whole.message.tool_calls or [], streamed):
        assert call.function.name == "weather"
        assert call.function.arguments == {"city": "Paris"}
    assert whole.message.content == ""
    assert parts[-1].done
    assert not parts[-1].message.tool_calls, "the last line has statistics only"


@pytest.mark.parametrize("stream", [True, False])
def test_openais_call_has_an_id_and_arguments_as_text(engine: Engine, tool_model: str, stream: bool) -> None:
    history: list[dict[str, Any]] = []
    for number, message in enumerate(HISTORY):
        calls = [
            {
                "id": f"call{number}",
                "type": "function",
                "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])},
            }
            for call in message.get("tool_calls", [])
        ]
        answers = {"tool_call_id": f"call{number - 1}"} if message["role"] == "tool" else {}
        history.append({**message, **answers, **({"tool_calls": calls} if calls else {})})
    body = {"model": tool_model, "messages": history, "tools": [WEATHER], "temperature": 0, "stream": stream}
    response = engine.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    if stream:
        chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        fragments = [part for chunk in chunks for part in chunk["choices"][0]["delta"].get("tool_calls", [])]
        reason = chunks[-1]["choices"][0]["finish_reason"]
    else:
        [choice] = response.json()["choices"]
        fragments, reason = choice["message"]["tool_calls"], choice["finish_reason"]
    assert fragments[0]["id"]
    assert fragments[0]["function"]["name"] == "weather"
    assert json.loads("".join(part["function"]["arguments"] for part in fragments)) == {"city": "Paris"}
    assert reason == "tool_calls"


TIME: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
GREETING = [{"role": "user", "content": "Good morning!"}]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
@pytest.mark.parametrize("count", [1, 2])
def test_a_call_that_is_required_comes_whatever_is_asked(
    engine: Engine, tool_model: str, choice: object, count: int
) -> None:
    tools = [WEATHER] if choice == "required" else [TIME, WEATHER]
    body = {"model": tool_model, "messages": GREETING, "tools": tools, "tool_choice": choice, "n": count, "seed": 1}
    answer = engine.http.post("/v1/chat/completions", json={**body, "temperature": 0}).json()
    assert len(answer["choices"]) == count
    for one in answer["choices"]:
        [call] = one["message"]["tool_calls"]
        assert call["function"]["name"] == "weather"
        assert isinstance(json.loads(call["function"]["arguments"])["city"], str)
        assert (one["finish_reason"], one["message"]["content"]) == ("tool_calls", None)


def test_a_required_call_streams_whole_and_one_that_is_cut_stays_text(engine: Engine, tool_model: str) -> None:
    body = {"model": tool_model, "messages": GREETING, "tools": [TIME, WEATHER], "tool_choice": "required"}
    options = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
    response = engine.http.post("/v1/chat/completions", json={**body, **options})
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    [call] = chunks[0]["choices"][0]["delta"]["tool_calls"]
    assert call["index"] == 0
    assert call["function"]["name"] in ("clock", "weather")
    assert chunks[1]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[2]["usage"]["completion_tokens"] > 4
    [cut] = engine.http.post("/v1/chat/completions", json={**body, "max_tokens": 3}).json()["choices"]
    assert cut["finish_reason"] == "length"
    assert "tool_calls" not in cut["message"]


@pytest.mark.parametrize(
    ("choice", "tools", "text"),
    [
        ({"type": "function", "function": {"name": "nosuch"}}, [WEATHER], "'nosuch', which is not among the tools"),
        ("required", [], "needs tools"),
        ("perhaps", [WEATHER], "must be none, auto, required"),
    ],
)
def test_a_choice_that_the_tools_do_not_have_is_refused(
    engine: Engine, tool_model: str, choice: object, tools: list[dict[str, Any]], text: str
) -> None:
    body = {"model": tool_model, "messages": GREETING, "tools": tools, "tool_choice": choice}
    response = engine.http.post("/v1/chat/completions", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tool_choice")
    assert text in response.json()["error"]["message"]
