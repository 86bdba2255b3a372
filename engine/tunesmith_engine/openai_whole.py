"""One OpenAI answer from the chunks of its stream."""

from typing import Any

Json = dict[str, Any]

_SHARED = ("id", "created", "model", "system_fingerprint")


def assemble(chunks: list[Json]) -> Json:
    """A ``chat.completion`` or ``text_completion`` with everything that the chunks say of each choice."""
    answer: Json = {key: chunks[0][key] for key in _SHARED if key in chunks[0]}
    is_chat = chunks[0].get("object") == "chat.completion.chunk"
    answer["object"] = "chat.completion" if is_chat else "text_completion"
    parts: dict[int, list[Json]] = {}
    for choice in (choice for chunk in chunks for choice in _list(chunk.get("choices"))):
        parts.setdefault(choice["index"], []).append(choice)
    answer["choices"] = [_choice(index, parts[index], is_chat=is_chat) for index in sorted(parts)]
    answer["usage"] = summed_usage([chunk["usage"] for chunk in chunks if chunk.get("usage")])
    return answer


def summed_usage(usages: list[Json]) -> Json | None:
    """The tokens of all choices; those of the prompt count once."""
    if not usages:
        return None
    completion = sum(usage.get("completion_tokens", 0) for usage in usages)
    prompt = usages[0].get("prompt_tokens", 0)
    return {**usages[0], "completion_tokens": completion, "total_tokens": prompt + completion}


def _choice(index: int, parts: list[Json], *, is_chat: bool) -> Json:
    reasons = [part["finish_reason"] for part in parts if part.get("finish_reason")]
    whole: Json = {"index": index, "finish_reason": reasons[-1] if reasons else None, "logprobs": _logprobs(parts)}
    if is_chat:
        return {**whole, "message": _message([part["delta"] for part in parts])}
    return {**whole, "text": "".join(part["text"] for part in parts)}


def _message(deltas: list[Json]) -> Json:
    message: Json = {"role": "assistant", "content": _text(deltas, "content")}
    if reasoning := _text(deltas, "reasoning_content"):
        message["reasoning_content"] = reasoning
    if calls := _tool_calls(deltas):
        message["tool_calls"] = calls
        message["content"] = message["content"] or None
    return message


def _text(deltas: list[Json], key: str) -> str:
    return "".join(str(delta[key]) for delta in deltas if delta.get(key))


def _tool_calls(deltas: list[Json]) -> list[Json]:
    """The calls whose names and arguments come in fragments."""
    calls: dict[object, dict[str, str]] = {}
    for fragment in (part for delta in deltas for part in _list(delta.get("tool_calls"))):
        call = calls.setdefault(fragment.get("index", 0), {"id": "", "name": "", "arguments": ""})
        call["id"] += fragment.get("id") or ""
        function = fragment.get("function") or {}
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""
    return [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in calls.values()
    ]


def _logprobs(choices: list[Json]) -> Json | None:
    content = [
        token
        for choice in choices
        if isinstance(logprobs := choice.get("logprobs"), dict)
        for token in _list(logprobs.get("content"))
    ]
    return {"content": content} if content else None


def _list(value: object) -> list[Json]:
    return value if isinstance(value, list) else []
