"""How Ollama says an answer: a line a piece, the last with statistics, or one object."""

import time

from tunesmith_engine.completions import Piece, Timings
from tunesmith_engine.models import timestamp
from tunesmith_engine.requests import ChatRequest, CompletionRequest
from tunesmith_shared.errors import TunesmithError

Json = dict[str, object]


class Answer:
    """The answer lines of one request; generate and chat differ in how a piece looks."""

    def __init__(self, request: CompletionRequest) -> None:
        self._request = request
        self._started = time.monotonic_ns()
        self._load_ns = 0

    def loaded(self) -> None:
        """Note that the model is there."""
        self._load_ns = time.monotonic_ns() - self._started

    def line(self, piece: Piece) -> Json:
        """One line of the stream; the piece with a finish reason becomes the last one, with statistics."""
        body: Json = {"model": self._request.model, "created_at": timestamp(time.time()), **self._content(piece)}
        if piece.finish_reason is None:
            return {**body, "done": False}
        reason = "length" if piece.finish_reason == "length" else "stop"
        return {**body, "done": True, "done_reason": reason, **self._statistics(piece.timings or Timings())}

    def bare(self, reason: str) -> Json:
        """The only line when a model was loaded or unloaded."""
        body: Json = {"model": self._request.model, "created_at": timestamp(time.time()), **self._content(Piece())}
        return {**body, "done": True, "done_reason": reason}

    def _content(self, piece: Piece) -> Json:
        if isinstance(self._request, ChatRequest):
            message: Json = {"role": "assistant", "content": piece.text}
            if piece.thinking:
                message["thinking"] = piece.thinking
            if piece.tool_calls:
                message["tool_calls"] = piece.tool_calls
            return {"message": message, **_logprobs(piece)}
        return {"response": piece.text, **({"thinking": piece.thinking} if piece.thinking else {}), **_logprobs(piece)}

    def _statistics(self, timings: Timings) -> Json:
        """Durations in nanoseconds, as Ollama gives them."""
        return {
            "total_duration": time.monotonic_ns() - self._started,
            "load_duration": self._load_ns,
            "prompt_eval_count": timings.prompt_tokens,
            "prompt_eval_duration": int(timings.prompt_ms * 1e6),
            "eval_count": timings.generated_tokens,
            "eval_duration": int(timings.generated_ms * 1e6),
        }


def _logprobs(piece: Piece) -> Json:
    return {"logprobs": piece.logprobs} if piece.logprobs else {}


def joined(lines: list[Json]) -> Json:
    """The one answer of ``stream: false``: all text together, the last line's statistics. Raises TunesmithError."""
    last = lines[-1]
    if "error" in last:
        raise TunesmithError(str(last["error"]))
    logprobs = [entry for line in lines if isinstance(said := line.get("logprobs"), list) for entry in said]
    if logprobs:
        last = {**last, "logprobs": logprobs}
    if "message" not in last:
        return _with_text(last, lines, "response", "thinking")
    messages = [line["message"] for line in lines if isinstance(line["message"], dict)]
    whole = _with_text(messages[-1], messages, "content", "thinking")
    calls = [call for message in messages for call in message.get("tool_calls", [])]
    return {**last, "message": {**whole, **({"tool_calls": calls} if calls else {})}}


def _with_text(last: Json, parts: list[Json], *keys: str) -> Json:
    texts = {key: "".join(str(part.get(key, "")) for part in parts) for key in keys}
    return {**last, **{key: text for key, text in texts.items() if text or key in last}}
