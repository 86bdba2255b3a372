"""Ollama's dialect with our extension `session_id`: a turn of a session around `/api/chat` and `/api/generate`.

Both go to the backend's `/api/chat`, whose template renders the history. A chat's lines are passed on as they come, a
generation's with the text under `response`; the last line has what a turn adds under `tunesmith`.
"""

from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from tunesmith_gateway.answers import Answer
from tunesmith_gateway.chat import Generated, Question, Turn
from tunesmith_gateway.dependencies import Services
from tunesmith_gateway.disconnect import while_connected
from tunesmith_gateway.places import held
from tunesmith_gateway.relay import NDJSON, error_event
from tunesmith_gateway.sessions import checked_session_id
from tunesmith_gateway.upstream import Outgoing, answered_error, native_error
from tunesmith_gateway.usage import count
from tunesmith_shared.errors import BadRequest, TunesmithError, UpstreamFailed

Json = dict[str, Any]

_OURS = ("session_id", "prompt", "system", "images", "messages", "context", "raw", "template", "suffix")


async def answer_in_session(request: Request, services: Services, owner: str, model: str, body: Json) -> Response:
    """Return the answer to a request with a `session_id`, whole or as the stream that Ollama's clients expect."""
    turn = await while_connected(request.receive, _prepared(request, services, owner, model, body))
    passed = {name: value for name, value in body.items() if name not in _OURS}
    asked = {**passed, "model": turn.model, "messages": turn.messages, "truncate": False}
    route = services.backends.route(turn.model)
    answer = await while_connected(request.receive, route.send(Outgoing("POST", "/api/chat", owner, body=asked)))
    held(request).enter_context(answer)
    if answer.status >= 400:
        content = await answer.read()
        refused = answered_error(route.name, answer.status, content, answer.headers.get("retry-after"))
        raise native_error(refused)
    as_chat = request.url.path.endswith("/chat")
    if body.get("stream", True):
        lines = _lines(services, turn, answer, request.url.path)
        return StreamingResponse(lines, media_type=NDJSON.content_type)
    part: Json = orjson.loads(await while_connected(request.receive, answer.read()))
    await _remember(services, turn, part["message"]["content"], part)
    return JSONResponse(_shown({**part, "tunesmith": _extras(turn)}, as_chat=as_chat))


async def _prepared(request: Request, services: Services, owner: str, model: str, body: Json) -> Turn:
    session_id, options = checked_session_id(body["session_id"]), body.get("options") or {}
    question = Question(
        owner=owner,
        model=await services.models.require(owner, model),
        messages=_messages(body),
        session_id=session_id,
        room=_positive(options.get("num_predict")),
        num_ctx=_positive(options.get("num_ctx")),
    )
    await held(request).enter_async_context(services.sessions.turn(owner, session_id))
    return await services.chat.prepare(question)


def _messages(body: Json) -> list[Json]:
    messages = body.get("messages")
    if "prompt" in body:
        asked = {"role": "user", "content": body["prompt"], **({"images": body["images"]} if "images" in body else {})}
        messages = [*([{"role": "system", "content": body["system"]}] if body.get("system") else []), asked]
    if not isinstance(messages, list) or not messages:
        raise BadRequest("A turn of a session needs messages, or a prompt.", param="messages")
    if not all(isinstance(one, dict) and "role" in one for one in messages):
        raise BadRequest("Each message must be an object with a role.", param="messages")
    return messages


async def _lines(services: Services, turn: Turn, answer: Answer, path: str) -> AsyncIterator[bytes]:
    """Pass the lines on; the turn is stored before its last line goes out."""
    pieces: list[str] = []
    as_chat = path.endswith("/chat")
    try:
        while line := await answer.line():
            part: Json = orjson.loads(line)
            if "error" in part:
                yield line
                return
            pieces.append(part["message"]["content"])
            if part["done"]:
                await _remember(services, turn, "".join(pieces), part)
                part["tunesmith"] = _extras(turn)
            yield line if as_chat and not part["done"] else orjson.dumps(_shown(part, as_chat=as_chat)) + b"\n"
            if part["done"]:
                return
        raise UpstreamFailed("The model's process ended before the answer was whole. Send the request again.")
    except TunesmithError as error:
        yield error_event(NDJSON, path, error)


async def _remember(services: Services, turn: Turn, text: str, last: Json) -> None:
    count(last)
    generated = Generated(text, last.get("prompt_eval_count", 0), last.get("eval_count", 0))
    await services.chat.remember(turn, generated)


def _shown(part: Json, *, as_chat: bool) -> Json:
    """Return a part as the route gives it: `/api/generate` has the text under `response`."""
    if as_chat:
        return part
    rest = {name: value for name, value in part.items() if name != "message"}
    return {**rest, "response": part["message"]["content"]}


def _extras(turn: Turn) -> Json:
    return {"session_id": turn.question.session_id, "omitted_messages": turn.omitted}


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
