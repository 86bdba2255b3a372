"""Tool calls that a request requires (``tool_choice``), where the model would rather talk.

llama.cpp's own grammar for required calls lets a model write as much as it likes before one, and a small model never
stops. So the answer is bound to a JSON object with a function's name and its arguments from the first token on, and
becomes a call when it is whole.
"""

import secrets
from collections.abc import Iterator
from typing import Any

import orjson

from tunesmith_shared.errors import BadRequest

Json = dict[str, Any]


def chosen_tools(choice: object, tools: list[Json]) -> list[Json]:
    """The tools of which one must be called; none when the model may decide.

    Raises BadRequest for a choice that the tools do not have.
    """
    if choice in (None, "auto", "none"):
        return []
    if isinstance(choice, dict):
        wanted = _function(choice).get("name")
        tools = [tool for tool in tools if _function(tool).get("name") == wanted]
        if not tools:
            raise BadRequest(f"tool_choice names '{wanted}', which is not among the tools", param="tool_choice")
    elif choice != "required":
        raise BadRequest("tool_choice must be none, auto, required or name a function", param="tool_choice")
    if not tools:
        raise BadRequest("tool_choice 'required' needs tools", param="tool_choice")
    return tools


def binding(tools: list[Json]) -> Json:
    """Request fields that bind an answer to a call of one of the tools."""
    functions = [_function(tool) for tool in tools]
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function.get("name")},
                "arguments": function.get("parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for function in functions
    ]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {
        "tool_choice": "none",
        "response_format": {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}},
    }


def with_calls(answer: Json) -> Json:
    """An answer whose bound texts are calls. One that was cut off stays the text that it is."""
    return {**answer, "choices": [_called(choice) for choice in answer["choices"]]}


def in_chunks(answer: Json, *, include_usage: bool) -> Iterator[Json]:
    """A whole answer as the chunks of a stream."""
    head = {**{name: answer[name] for name in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    for choice in answer["choices"]:
        delta = dict(choice["message"])
        if "tool_calls" in delta:
            delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(delta["tool_calls"])]
        yield {**head, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}]}
    if include_usage:
        yield {**head, "choices": [], "usage": answer["usage"]}


def _called(choice: Json) -> Json:
    try:
        call = orjson.loads(choice["message"]["content"] or "")
    except orjson.JSONDecodeError:
        return choice
    function = {"name": call["name"], "arguments": orjson.dumps(call["arguments"]).decode()}
    calls = [{"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    return {**choice, "message": message, "finish_reason": "tool_calls"}


def _function(tool: Json) -> Json:
    function = tool.get("function")
    return function if isinstance(function, dict) else {}
