"""Ollama's chat messages as llama.cpp's server wants them."""

import orjson

from tunesmith_shared.errors import BadRequest, TunesmithError

Json = dict[str, object]

_ROLES = ("system", "user", "assistant", "tool")


class InvalidFormat(TunesmithError):
    """``format`` is neither "json" nor a schema; a 500 in Ollama, which clients know."""

    status = 500
    type = "invalid_request_error"


def openai_messages(messages: list[Json]) -> list[Json]:
    """Ollama's messages in OpenAI's form: tool calls get ids, and tool results the ids of their calls in order."""
    converted: list[Json] = []
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        role = message.get("role")
        if role not in _ROLES:
            raise BadRequest(f"messages[{number}].role must be one of {', '.join(_ROLES)}", param="messages")
        if message.get("images"):
            raise BadRequest("this engine does not take images; leave 'images' out", param="messages")
        result: Json = {"role": role, "content": message.get("content") or ""}
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            result["tool_calls"] = _openai_calls(calls, number)
            open_calls = [f"call_{number}_{index}" for index in range(len(calls))]
        if role == "tool":
            result["tool_call_id"] = open_calls.pop(0) if open_calls else f"call_{number}"
            name = message.get("tool_name") or message.get("name")
            if name:
                result["name"] = name
        if message.get("thinking"):
            result["reasoning_content"] = message["thinking"]
        converted.append(result)
    return converted


def _openai_calls(calls: list[Json], number: int) -> list[Json]:
    converted: list[Json] = []
    for index, call in enumerate(calls):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadRequest(f"messages[{number}].tool_calls[{index}] has no function name", param="messages")
        arguments = orjson.dumps(function.get("arguments") or {}).decode()
        converted.append(
            {
                "id": f"call_{number}_{index}",
                "type": "function",
                "function": {"name": function["name"], "arguments": arguments},
            }
        )
    return converted


def with_model_messages(messages: list[Json], system: str, preset: tuple[Json, ...]) -> list[Json]:
    """The request's messages after the model's own ones, with the model's system message when there is no other."""
    combined = [*preset, *messages]
    if system and not any(message.get("role") == "system" for message in combined):
        return [{"role": "system", "content": system}, *combined]
    return combined


def response_format(value: object) -> Json:
    """Request fields for Ollama's ``format``: ``"json"`` or a schema. Raises InvalidFormat."""
    if value is None or value == "":
        return {}
    if value == "json":
        return {"response_format": {"type": "json_object"}}
    if isinstance(value, dict):
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": value}}}
    raise InvalidFormat(
        f'invalid format: {orjson.dumps(value).decode()}; expected "json" or a valid JSON Schema object'
    )


def raw_format(value: object) -> Json:
    """The same for completions of a bare prompt."""
    if not response_format(value):
        return {}
    return {"json_schema": value if isinstance(value, dict) else {}}
