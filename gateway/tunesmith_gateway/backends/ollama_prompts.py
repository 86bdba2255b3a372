"""Whether an Ollama takes a prompt whole.

Its `/v1` cuts a prompt that is longer than the context without a word; its own routes refuse it when they are told to.
So they are asked first, with one token to generate, where a prompt could be too long. What they read stays in the
server's prompt cache, where the request that follows finds it.
"""

from typing import Any

from tunesmith_gateway.backends.protocol import Json
from tunesmith_gateway.upstream import Outgoing

CUTTING = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
"""Routes on which Ollama cuts."""

_PER_MESSAGE = 16  # tokens that a chat template puts around a message, at the most


def at_most(body: Json) -> int:
    """Return a number of tokens that no prompt of `body` exceeds: a token is a byte of text or more."""
    if "messages" in body:
        texts = [_text(message) for message in _messages(body)]
        return sum(len(text.encode()) + _PER_MESSAGE for text in texts) + len(str(body.get("tools") or "").encode())
    asked = body.get("prompt", body.get("input"))
    if isinstance(asked, str):
        return len(asked.encode())
    return max((len(str(part).encode()) for part in asked), default=0) if isinstance(asked, list) else 0


def native_question(path: str, owner: str, body: Json) -> Outgoing:
    """Return the request in Ollama's dialect that is refused when the prompt of `body` is too long."""
    asked: Json = {"model": body.get("model"), "truncate": False, "stream": False}
    if path == "/v1/embeddings":
        return Outgoing("POST", "/api/embed", owner, body=asked | {"input": body.get("input")})
    asked["options"] = {"num_predict": 1}
    if path == "/v1/completions":
        return Outgoing("POST", "/api/generate", owner, body=asked | {"prompt": body.get("prompt"), "raw": True})
    said = [{"role": message.get("role"), "content": _text(message)} for message in _messages(body)]
    tools = {"tools": body["tools"]} if body.get("tools") else {}
    return Outgoing("POST", "/api/chat", owner, body=asked | {"messages": said} | tools)


def _messages(body: Json) -> list[Json]:
    messages = body.get("messages")
    return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []


def _text(message: Json) -> str:
    """Return the words of a message, those of the tool calls in it, too."""
    content: Any = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return f"{content}{message.get('tool_calls') or ''}"
