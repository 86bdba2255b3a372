"""Requests in Ollama's native dialect, said in OpenAI's.

https://github.com/ollama/ollama/blob/main/docs/api.md to https://platform.openai.com/docs/api-reference
"""

from typing import Any

import orjson

from tunesmith_gateway.backends.protocol import Json
from tunesmith_gateway.settings import BackendRow
from tunesmith_shared.errors import BadRequest

# Ollama's options to OpenAI's fields, and those that only say how a server of Ollama's kind runs a model.
_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "seed": "seed",
    "num_predict": "max_tokens",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_OF_THE_SERVER = ("num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap", "low_vram")
_KINDS_OF_IMAGE = {"/9j/": "jpeg", "iVBOR": "png", "R0lGO": "gif", "UklGR": "webp"}


def only_loads(path: str, body: Json) -> bool:
    """Return whether a request asks for nothing but to load a model or to unload it."""
    asked = {"/api/chat": "messages", "/api/generate": "prompt"}.get(path)
    return asked is not None and not body.get(asked)


def chat(body: Json, row: BackendRow) -> Json:
    """Return the chat completion that `/api/chat` with `body` asks for.

    Raises `BadRequest` for options that the backend has no equivalent of.
    """
    wanted = {"model": body["model"], "messages": _messages(body["messages"]), **_sampling(body, row)}
    if body.get("tools"):
        wanted["tools"] = body["tools"]
    if body.get("format"):
        wanted["response_format"] = _response_format(body["format"])
    if body.get("stream", True):
        wanted |= {"stream": True, "stream_options": {"include_usage": True}}
    return wanted


def generate(body: Json, row: BackendRow) -> Json:
    """Return the chat completion that `/api/generate` with `body` asks for. Raises as `chat` does."""
    impossible = [name for name in ("raw", "suffix", "template", "context") if body.get(name)]
    if impossible:
        raise BadRequest(
            f"The {row.title} speaks OpenAI's API, which has no {', '.join(impossible)}: leave it out, or use "
            "/v1/completions for a prompt without a template.",
            param=impossible[0],
        )
    lead = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    question = {"role": "user", "content": body["prompt"], "images": body.get("images")}
    return chat({**body, "messages": [*lead, question]}, row)


def embed(body: Json, _row: BackendRow) -> Json:
    """Return the request for embeddings that `/api/embed` with `body` asks for."""
    wanted = {"model": body["model"], "input": body.get("input", "")}
    return wanted | ({"dimensions": body["dimensions"]} if body.get("dimensions") else {})


def embeddings(body: Json, _row: BackendRow) -> Json:
    """Return the request for one embedding that the older `/api/embeddings` with `body` asks for."""
    return {"model": body["model"], "input": body.get("prompt", "")}


def _sampling(body: Json, row: BackendRow) -> Json:
    """Return OpenAI's fields for Ollama's options, and under the row's names those that only this backend knows."""
    known = _OPTIONS | row.options
    options = {name: value for name, value in (body.get("options") or {}).items() if name not in _OF_THE_SERVER}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise BadRequest(
            f"The {row.title} speaks OpenAI's API, which has no {', '.join(unknown)}. Leave it out; an operator whose "
            "server knows it names it under options in the backend's row.",
            param="options",
        )
    wanted = {known[name]: value for name, value in options.items() if value is not None}
    limit = wanted.get("max_tokens")
    if isinstance(limit, int) and limit < 1:  # Ollama's "as many as it takes"
        del wanted["max_tokens"]
    return wanted


def _response_format(wanted: Any) -> Json:
    if wanted == "json":
        return {"type": "json_object"}
    if not isinstance(wanted, dict):
        raise BadRequest('format must be "json" or a JSON schema.', param="format")
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted, "strict": True}}


def _messages(messages: list[Json]) -> list[Json]:
    """Return messages in OpenAI's shape. Ollama's tool results have no ids: they answer the calls in their order."""
    wanted: list[Json] = []
    open_calls: list[str] = []
    for message in messages:
        said = {"role": message["role"], "content": _content(message)}
        if message.get("tool_calls"):
            said["tool_calls"] = [_call(call, len(wanted), index) for index, call in enumerate(message["tool_calls"])]
            open_calls = [call["id"] for call in said["tool_calls"]]
        elif message["role"] == "tool":
            said["tool_call_id"] = open_calls.pop(0) if open_calls else "call_0"
        wanted.append(said)
    return wanted


def _content(message: Json) -> str | list[Json]:
    text, images = message.get("content") or "", message.get("images")
    if not images:
        return str(text)
    return [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": _url(i)}} for i in images)]


def _url(image: str) -> str:
    kind = next((kind for start, kind in _KINDS_OF_IMAGE.items() if image.startswith(start)), "png")
    return f"data:image/{kind};base64,{image}"


def _call(call: Json, message: int, index: int) -> Json:
    function = call["function"]
    arguments = orjson.dumps(function.get("arguments") or {}).decode()
    identifier = call.get("id") or f"call_{message}_{index}"
    return {"id": identifier, "type": "function", "function": {"name": function["name"], "arguments": arguments}}
