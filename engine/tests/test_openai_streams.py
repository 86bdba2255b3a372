"""Streams that pass through and answers that are put together from them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tunesmith_engine.openai import served_events
from tunesmith_engine.openai_whole import assemble
from tunesmith_engine.specification import ALIAS


def event(text: str, **more: object) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"content": text}}], "model": ALIAS, **more}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


async def _served(chunks: list[bytes], name: str) -> bytes:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return b"".join([part async for part in served_events(source(), name)])


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_the_name_is_put_in_wherever_the_network_cuts(size: int) -> None:
    said = f'"model":"{ALIAS}" and "prompt_progress":{{'
    stream = event("", prompt_progress={"processed": 0}) + event("ä") + event(said) + b"data: [DONE]\n\n"
    served = await _served([stream[at : at + size] for at in range(0, len(stream), size)], 'a"b:c')
    first, second, done = [line[6:] for line in served.split(b"\n\n") if line]
    assert json.loads(first)["choices"][0]["delta"]["content"] == "ä"
    assert json.loads(first)["model"] == 'a"b:c'
    assert json.loads(second)["choices"][0]["delta"]["content"] == said, "generated text stays as it is"
    assert done == b"[DONE]"


def _chunk(delta: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, **choice}]}


def test_a_whole_answer_has_all_that_its_chunks_say() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    answer: dict[str, Any] = assemble(
        [
            _chunk({"role": "assistant", "content": None}, finish_reason=None),
            _chunk({"content": "Hel"}, logprobs={"content": [{"token": "Hel"}]}),
            _chunk({"content": "lo"}, logprobs={"content": [{"token": "lo"}]}),
            _chunk({}, finish_reason="stop"),
            {"object": "chat.completion.chunk", "choices": [], "usage": usage},
        ]
    )
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello"}
    assert choice["finish_reason"] == "stop"
    assert [token["token"] for token in choice["logprobs"]["content"]] == ["Hel", "lo"]
    assert (answer["object"], answer["usage"]) == ("chat.completion", usage)


def test_tool_calls_are_joined_from_their_fragments() -> None:
    def fragment(index: int, **function: str) -> dict[str, Any]:
        return _chunk({"tool_calls": [{"index": index, "function": function}]})

    answer: dict[str, Any] = assemble(
        [
            _chunk({"tool_calls": [{"index": 0, "id": "c0", "function": {"name": "f", "arguments": ""}}]}),
            fragment(0, arguments='{"a":'),
            fragment(0, arguments="1}"),
            _chunk({"tool_calls": [{"index": 1, "id": "c1", "function": {"name": "g", "arguments": "{}"}}]}),
        ]
    )
    calls = answer["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls] == [
        ("c0", "f", '{"a":1}'),
        ("c1", "g", "{}"),
    ]
    assert answer["choices"][0]["message"]["content"] is None
