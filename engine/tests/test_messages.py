"""Ollama's messages and formats in the words of llama.cpp's server."""

import json
from typing import Any

import pytest

from tunesmith_engine.messages import InvalidFormat, openai_messages, raw_format, response_format, with_model_messages
from tunesmith_engine.truncation import cut_tokens
from tunesmith_shared.errors import BadRequest


def test_tool_calls_get_ids_that_their_results_repeat() -> None:
    call: dict[str, Any] = {"function": {"name": "weather", "arguments": {"city": "Paris"}}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "sunny", "tool_name": "weather"},
        {"role": "tool", "content": "warm"},
    ]
    converted: list[dict[str, Any]] = openai_messages(messages)
    calls = converted[1]["tool_calls"]
    assert [call["id"] for call in calls] == [converted[2]["tool_call_id"], converted[3]["tool_call_id"]]
    assert json.loads(calls[0]["function"]["arguments"]) == {"city": "Paris"}
    assert converted[2]["name"] == "weather"


@pytest.mark.parametrize(
    "message",
    [{"role": "king"}, {"content": "x"}, {"role": "user", "images": ["x"]}, {"role": "assistant", "tool_calls": [{}]}],
)
def test_a_message_that_is_none_is_refused_by_its_number(message: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        openai_messages([{"role": "user", "content": "fine"}, message])


def test_the_models_system_message_steps_back_for_the_requests_own() -> None:
    preset: tuple[dict[str, object], ...] = ({"role": "user", "content": "before"},)
    user: dict[str, object] = {"role": "user", "content": "x"}
    own: dict[str, object] = {"role": "system", "content": "own"}
    assert with_model_messages([user], "the model's", preset) == [
        {"role": "system", "content": "the model's"},
        *preset,
        user,
    ]
    assert with_model_messages([own, user], "the model's", ()) == [own, user]


def test_formats() -> None:
    assert response_format(None) == response_format("") == raw_format(None) == {}
    assert response_format("json") == {"response_format": {"type": "json_object"}}
    assert raw_format("json") == {"json_schema": {}}
    assert raw_format({"type": "string"}) == {"json_schema": {"type": "string"}}
    for wrong in ("xml", ["json"], 5):
        with pytest.raises(InvalidFormat):
            response_format(wrong)


def test_the_middle_of_a_long_prompt_goes() -> None:
    tokens = list(range(100))
    assert cut_tokens(tokens, 4, 10) == [0, 1, 2, 3, 94, 95, 96, 97, 98, 99]
    assert cut_tokens(tokens, 0, 3) == [97, 98, 99]
    assert cut_tokens(tokens, 4, 100) == tokens
