"""Streaming completions of a model process: llama.cpp's server-sent events as typed pieces."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import orjson

from tunesmith_engine.options import Options
from tunesmith_engine.process import ModelProcess, RunnerFailed

Json = dict[str, object]

CHAT_PATH = "/v1/chat/completions"
TEXT_PATH = "/v1/completions"
_DONE = b"[DONE]"

# llama.cpp looks whether the client is there only when it writes to it, or when a second passes in which no
# request of the model gets anything. So every answer is streamed, and progress is written while a prompt is read.
_STREAMING: Json = {"stream": True, "return_progress": True}


@dataclass(slots=True)
class Timings:
    """What a finished generation took; durations in milliseconds."""

    prompt_tokens: int = 0
    prompt_ms: float = 0.0
    generated_tokens: int = 0
    generated_ms: float = 0.0


@dataclass(slots=True)
class Piece:
    """A part of an answer. The last one has a finish reason and timings."""

    text: str = ""
    thinking: str = ""
    tool_calls: list[Json] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    finish_reason: str | None = None
    timings: Timings | None = None


@contextlib.asynccontextmanager
async def generation(process: ModelProcess, path: str, body: Options) -> AsyncIterator[aiohttp.ClientResponse]:
    """The stream of one generation. Raises RunnerFailed, BadRequest, ContextExceeded.

    A seed has to give the same answer again, and sums of one token round differently than those of many. A prompt that
    is read anew is computed by many, and of one that is there already the last token by itself. So a prompt with a seed
    is read first, and answered from its last token every time.
    """
    seed = body.get("seed")
    if isinstance(seed, int) and seed >= 0:
        async with process.request(path, {**body, **_STREAMING, "n": 1, "n_predict": 0}) as reading:
            await reading.read()
    async with process.request(path, {**body, **_STREAMING}) as response:
        yield response


async def stream_pieces(process: ModelProcess, path: str, body: Options) -> AsyncGenerator[Piece, None]:
    """The pieces of one generation, the last with its reason. Raises RunnerFailed, BadRequest, ContextExceeded."""
    calls = _ToolCalls()
    last = Piece()
    async with generation(process, path, body) as response:
        async for line in response.content:
            data = event_data(line)
            if data is None:
                continue
            event = orjson.loads(data)
            if "error" in event:
                raise RunnerFailed(str(event["error"].get("message", "the model failed")))
            if "timings" in event:
                last.timings = _timings(event["timings"])
            for choice in event["choices"]:
                last.finish_reason = choice["finish_reason"] or last.finish_reason
                piece = _piece(choice, calls)
                if piece is not None:
                    yield piece
    if last.finish_reason is None:
        raise RunnerFailed("the model process ended before its answer was complete")
    last.tool_calls = calls.whole()
    yield last


def event_data(line: bytes) -> bytes | None:
    """The JSON in a line of a stream of events; None for other lines and for the end mark."""
    data = line[6:].strip() if line.startswith(b"data: ") else b""
    return data if data and data != _DONE else None


def _piece(choice: Json, calls: "_ToolCalls") -> Piece | None:
    """The visible part of an event; fragments of tool calls are put aside until they are whole."""
    delta, logprobs = choice.get("delta"), _logprobs(choice.get("logprobs"))
    if isinstance(delta, dict):
        calls.add(delta.get("tool_calls") or [])
        piece = Piece(delta.get("content") or "", delta.get("reasoning_content") or "", logprobs=logprobs)
    else:
        piece = Piece(str(choice.get("text") or ""), logprobs=logprobs)
    return piece if piece.text or piece.thinking or piece.logprobs else None


def _logprobs(told: object) -> list[Json]:
    """Ollama's form: without the tokens' numbers."""
    content = told.get("content") if isinstance(told, dict) else None
    return [
        {**_logprob(entry), "top_logprobs": [_logprob(other) for other in entry["top_logprobs"]]}
        for entry in content or ()
    ]


def _logprob(entry: Json) -> Json:
    return {name: entry[name] for name in ("token", "logprob", "bytes")}


def _timings(timings: Json) -> Timings:
    def number(key: str) -> float:
        value = timings.get(key, 0)
        return value if isinstance(value, int | float) else 0.0

    return Timings(
        prompt_tokens=int(number("prompt_n") + number("cache_n")),
        prompt_ms=number("prompt_ms"),
        generated_tokens=int(number("predicted_n")),
        generated_ms=number("predicted_ms"),
    )


class _ToolCalls:
    """Collects OpenAI's tool call fragments; Ollama's clients get whole calls with parsed arguments."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._arguments: dict[int, str] = {}

    def add(self, fragments: list[Json]) -> None:
        """Take the fragments of one event."""
        for fragment in fragments:
            index, function = fragment.get("index", 0), fragment.get("function")
            if isinstance(index, int) and isinstance(function, dict):
                self._names[index] = self._names.get(index, "") + (function.get("name") or "")
                self._arguments[index] = self._arguments.get(index, "") + (function.get("arguments") or "")

    def whole(self) -> list[Json]:
        """Ollama's form of all calls."""
        return [
            {"function": {"index": index, "name": name, "arguments": _parsed(self._arguments[index])}}
            for index, name in sorted(self._names.items())
        ]


def _parsed(arguments: str) -> Json:
    try:
        value = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return {"_raw": arguments}
    return value if isinstance(value, dict) else {"value": value}
