"""The answer that no model was asked for, in the shape in which OpenAI's clients expect one."""

import time
from collections.abc import Iterator
from typing import Any

import orjson

from tunesmith_shared.ids import new_id

Json = dict[str, Any]

_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def refusal_completion(model: str, text: str) -> Json:
    """Return the chat completion that says `text`."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_head(model), "object": "chat.completion", "choices": [choice], "usage": dict(_USAGE)}


def refusal_chunks(model: str, text: str, *, include_usage: bool) -> Iterator[bytes]:
    """Yield the same as chunks of a stream."""
    head = {**_head(model), "object": "chat.completion.chunk"}
    delta = {"role": "assistant", "content": text}
    said: Json = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    end: Json = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    yield orjson.dumps({**head, "choices": [said]})
    yield orjson.dumps({**head, "choices": [end]})
    if include_usage:
        yield orjson.dumps({**head, "choices": [], "usage": _USAGE})


def _head(model: str) -> Json:
    return {"id": new_id("chatcmpl"), "created": int(time.time()), "model": model}
