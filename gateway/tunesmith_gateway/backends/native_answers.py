"""Answers in OpenAI's dialect, said in Ollama's native one: whole ones as JSON, streams as lines of JSON."""

import math
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

import orjson

from tunesmith_gateway.answers import Answer
from tunesmith_gateway.backends.protocol import Json
from tunesmith_shared.errors import UpstreamFailed

_REASONS = {"length": "length"}  # everything else is a stop to Ollama
Shape = Callable[[Json], Json]
"""Puts a message, or a piece of one, where the route has it."""


def loaded(path: str, body: Json) -> Json:
    """Return what a request that only loads or unloads a model is told; the server itself decides when it does."""
    reason = "unload" if body.get("keep_alive") in (0, "0", "0s") else "load"
    message: Json = {"role": "assistant", "content": ""}
    said = _in_response(message) if path == "/api/generate" else _in_message(message)
    return {**_head(body), **said, "done": True, "done_reason": reason}


def chat(answer: Answer, body: Json) -> AsyncGenerator[bytes]:
    """Yield the answer to `/api/chat` with `body`, as it comes."""
    return (_lines if body.get("stream", True) else _whole)(answer, body, _in_message)


def generate(answer: Answer, body: Json) -> AsyncGenerator[bytes]:
    """Yield the answer to `/api/generate` with `body`, as it comes."""
    return (_lines if body.get("stream", True) else _whole)(answer, body, _in_response)


async def embed(answer: Answer, body: Json) -> AsyncGenerator[bytes]:
    """Yield the answer to `/api/embed` with `body`; vectors have the length one, as Ollama's."""
    started = time.perf_counter_ns()
    whole = await _json(answer)
    spent = {"total_duration": time.perf_counter_ns() - started, "load_duration": 0}
    counted = {"prompt_eval_count": (whole.get("usage") or {}).get("prompt_tokens", 0)}
    yield orjson.dumps({"model": body["model"], "embeddings": _vectors(whole), **spent, **counted})


async def embeddings(answer: Answer, _body: Json) -> AsyncGenerator[bytes]:
    """Yield the answer to the older `/api/embeddings`."""
    yield orjson.dumps({"embedding": _vectors(await _json(answer))[0]})


async def _whole(answer: Answer, body: Json, shape: Shape) -> AsyncGenerator[bytes]:
    started = time.perf_counter_ns()
    whole = await _json(answer)
    choice = whole["choices"][0]
    message = _message(choice["message"])
    if choice["message"].get("tool_calls"):
        message["tool_calls"] = [_native_call(call["function"]) for call in choice["message"]["tool_calls"]]
    end = _end(started, started, whole.get("usage"), choice.get("finish_reason"))
    yield orjson.dumps({**_head(body), **shape(message), **end})


async def _lines(answer: Answer, body: Json, shape: Shape) -> AsyncGenerator[bytes]:
    """Yield a line a piece of text, then the tools that are called, then the end with the statistics.

    An answer that breaks off has no end; who reads it knows that by its absence.
    """
    started = first = time.perf_counter_ns()
    usage: Json | None = None
    reason: str | None = None
    calls: dict[int, Json] = {}
    while line := await answer.line():
        data = line.strip().removeprefix(b"data:").strip()
        if data == b"[DONE]":
            last: Json = {"role": "assistant", "content": ""}
            if calls:
                last["tool_calls"] = [_native_call(call) for _, call in sorted(calls.items())]
            yield _line({**_head(body), **shape(last), **_end(started, first, usage, reason)})
            return
        if not data or not line.startswith(b"data:"):
            continue
        part = orjson.loads(data)
        if "error" in part:
            yield _line({"error": _text_of(part["error"])})
            return
        usage = part.get("usage") or usage
        for choice in part.get("choices", ())[:1]:
            reason = choice.get("finish_reason") or reason
            delta = choice.get("delta") or {}
            _collect(calls, delta.get("tool_calls") or ())
            message = _message(delta)
            if message["content"] or "thinking" in message:
                first = time.perf_counter_ns() if first == started else first
                yield _line({**_head(body), **shape(message), "done": False})


async def _json(answer: Answer) -> Json:
    try:
        whole: Json = orjson.loads(await answer.read())
    except orjson.JSONDecodeError as error:
        raise UpstreamFailed("The backend answered something that is no JSON.") from error
    return whole


def _head(body: Json) -> Json:
    return {"model": body.get("model"), "created_at": datetime.now(UTC).isoformat()}


def _end(started: int, first: int, usage: Json | None, reason: str | None) -> Json:
    """Return the statistics of an answer; `started` and `first` (its first token) are in nanoseconds."""
    now, counts = time.perf_counter_ns(), usage or {}
    return {
        "done": True,
        "done_reason": _REASONS.get(reason or "stop", "stop"),
        "total_duration": now - started,
        "load_duration": 0,
        "prompt_eval_count": counts.get("prompt_tokens", 0),
        "prompt_eval_duration": first - started,
        "eval_count": counts.get("completion_tokens", 0),
        "eval_duration": now - first,
    }


def _message(said: Json) -> Json:
    message: Json = {"role": "assistant", "content": said.get("content") or ""}
    thought = said.get("reasoning_content") or said.get("reasoning")
    return message | ({"thinking": thought} if thought else {})


def _in_message(message: Json) -> Json:
    return {"message": message}


def _in_response(message: Json) -> Json:
    thought = {"thinking": message["thinking"]} if "thinking" in message else {}
    return {"response": message["content"], **thought}


def _collect(calls: dict[int, Json], parts: list[Json] | tuple[Json, ...]) -> None:
    """Put the pieces of tool calls together: a name, and arguments that come in parts."""
    for part in parts:
        call = calls.setdefault(part.get("index", 0), {"name": "", "arguments": ""})
        function = part.get("function") or {}
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""


def _native_call(function: Json) -> Json:
    """Return a tool call in Ollama's shape, whose arguments are an object and no text."""
    try:
        arguments = orjson.loads(function.get("arguments") or "{}")
    except orjson.JSONDecodeError as error:
        raise UpstreamFailed(f"The model called '{function['name']}' with arguments that are no JSON.") from error
    return {"function": {"name": function["name"], "arguments": arguments}}


def _vectors(whole: Json) -> list[list[float]]:
    return [_of_length_one(entry["embedding"]) for entry in sorted(whole["data"], key=lambda entry: entry["index"])]


def _of_length_one(vector: list[float]) -> list[float]:
    length = math.sqrt(math.fsum(value * value for value in vector))
    return [value / length for value in vector] if length else vector


def _line(part: Json) -> bytes:
    return orjson.dumps(part) + b"\n"


def _text_of(error: object) -> str:
    return str(error.get("message") if isinstance(error, dict) else error)
