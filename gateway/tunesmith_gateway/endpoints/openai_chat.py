"""OpenAI's dialect: chat completions.

A request without our extensions is relayed to a backend as it is. One with `session_id`, `documents`
or `vector_store_ids` gets history and excerpts put before the model, and citations and the session behind the answer;
`self_consistency` puts several samples in the model's place.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from tunesmith_gateway.chat import Generated, Question, Turn
from tunesmith_gateway.choices import merged, several
from tunesmith_gateway.dependencies import Services
from tunesmith_gateway.disconnect import while_connected
from tunesmith_gateway.endpoints.retrieval import RetrievalOptions, shown_retrieval
from tunesmith_gateway.endpoints.v1 import generate, model_of, number_of_choices, read_json
from tunesmith_gateway.generation_routes import Generates
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.places import held
from tunesmith_gateway.refusals import refusal_chunks, refusal_completion
from tunesmith_gateway.sampling import consistent_answer, in_chunks
from tunesmith_gateway.self_consistency import SelfConsistency
from tunesmith_gateway.sessions import checked_session_id
from tunesmith_gateway.sse import DONE, asks_for_usage, event, read_events
from tunesmith_shared.errors import BadRequest, TunesmithError, openai_body

router = APIRouter(prefix="/v1", tags=["openai"])

_EXTENSIONS = frozenset(("session_id", "documents", "vector_store_ids", "retrieval", "self_consistency"))


class Extensions(BaseModel):
    """What a chat request may carry beyond OpenAI's fields."""

    session_id: str | None = None
    documents: list[str] = Field(default_factory=list)
    vector_store_ids: list[str] = Field(default_factory=list)
    retrieval: RetrievalOptions = RetrievalOptions()
    self_consistency: SelfConsistency | None = None


@router.post("/chat/completions")
@Generates
async def chat_completions(request: Request, services: Services, caller: Caller) -> Response:
    """Answer a conversation, whole or as a stream."""
    body = await read_json(request)
    if not is_extended(body):
        return await generate(request, services, caller, "/v1/chat/completions", body)
    extensions = _extensions(body)
    prepared = _prepare(services, caller.owner, body, extensions, held(request))
    turn, upstream_body = await while_connected(request.receive, prepared)
    if body.get("stream") and extensions.self_consistency is None:
        return StreamingResponse(_streamed(services, turn, upstream_body), media_type="text/event-stream")
    answer = await while_connected(request.receive, _whole(services, turn, upstream_body, extensions.self_consistency))
    if body.get("stream"):
        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return StreamingResponse(in_chunks(answer, include_usage=include_usage), media_type="text/event-stream")
    return JSONResponse(answer)


def is_extended(body: dict[str, Any]) -> bool:
    """Say whether a request asks for something that OpenAI's API does not have."""
    return any(body[name] is not None for name in _EXTENSIONS & body.keys())


async def whole_turn(services: Services, owner: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the whole answer to a request with our extensions."""
    extensions = _extensions(body)
    async with AsyncExitStack() as until_sent:
        turn, upstream_body = await _prepare(services, owner, body, extensions, until_sent)
        return await _whole(services, turn, upstream_body, extensions.self_consistency)


def _extensions(body: dict[str, Any]) -> Extensions:
    if number_of_choices(body) > 1:
        raise BadRequest("A session, documents or self_consistency take one choice: leave n out.", param="n")
    try:
        return Extensions.model_validate({name: body[name] for name in _EXTENSIONS if body.get(name) is not None})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadRequest(f"{place}: {first['msg']}", param=place) from error


async def _prepare(
    services: Services, owner: str, body: dict[str, Any], extensions: Extensions, until_sent: AsyncExitStack
) -> tuple[Turn, dict[str, Any]]:
    """Return the turn, and the request to the model that it leads to; the session's turn is held `until_sent`."""
    question = await _question(services, owner, body, extensions)
    if question.session_id is not None:
        await until_sent.enter_async_context(services.sessions.turn(question.owner, question.session_id))
    turn = await services.chat.prepare(question)
    plain = {key: value for key, value in body.items() if key not in _EXTENSIONS}
    return turn, plain | {"messages": turn.messages, "truncate": False}


async def _question(services: Services, owner: str, body: dict[str, Any], extensions: Extensions) -> Question:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list with at least one message.", param="messages")
    model = await services.models.require(owner, model_of(body))
    room = body.get("max_completion_tokens") or body.get("max_tokens")
    return Question(
        owner=owner,
        model=model,
        messages=messages,
        session_id=checked_session_id(extensions.session_id) if extensions.session_id is not None else None,
        documents=extensions.documents,
        vector_store_ids=extensions.vector_store_ids,
        retrieval=extensions.retrieval.retrieval(services.settings, model),
        room=room if isinstance(room, int) else None,
    )


async def _whole(
    services: Services, turn: Turn, body: dict[str, Any], consistency: SelfConsistency | None
) -> dict[str, Any]:
    path, owner, route = "/v1/chat/completions", turn.question.owner, services.backends.route(turn.model)

    async def ask(one: dict[str, Any], count: int) -> dict[str, Any]:
        if turn.refusal:
            return merged([refusal_completion(turn.model, turn.refusal)] * count)
        return await several(route, path, owner, one, count)

    answer = await (ask(body, 1) if consistency is None else consistent_answer(ask, body, consistency))
    message = answer["choices"][0]["message"]
    text = message.get("content") or ""
    message["annotations"] = _annotations(turn, text)
    answer["tunesmith"] = {**_extras(turn), **answer.get("tunesmith", {})}
    usage = dict(answer.get("usage") or {})
    if consistency is not None:  # counts all samples; how long the winner is, is not known
        usage.pop("completion_tokens", None)
    await services.chat.remember(turn, _generated(text, usage))
    return answer


async def _streamed(services: Services, turn: Turn, body: dict[str, Any]) -> AsyncIterator[bytes]:
    """Pass the chunks on, then one more with the citations, then the end mark."""
    pieces: list[str] = []
    last: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    try:
        async for content in _events(services, turn, body, usage):
            last = orjson.loads(content)
            pieces.extend(choice.get("delta", {}).get("content") or "" for choice in last.get("choices", ()))
            yield event(content)
    except TunesmithError as error:
        yield event(orjson.dumps(openai_body(error)))
        return
    text = "".join(pieces)
    await services.chat.remember(turn, _generated(text, usage))
    delta = {"index": 0, "delta": {"annotations": _annotations(turn, text)}, "finish_reason": None}
    head = {key: last[key] for key in ("id", "object", "created", "model") if key in last}
    yield event(orjson.dumps({**head, "choices": [delta], "tunesmith": _extras(turn)}))
    yield event(DONE)


async def _events(services: Services, turn: Turn, body: dict[str, Any], usage: dict[str, Any]) -> AsyncIterator[bytes]:
    if turn.refusal:
        for chunk in refusal_chunks(turn.model, turn.refusal, include_usage=asks_for_usage(body)):
            yield chunk
        return
    route = services.backends.route(turn.model)
    async for content in read_events(route, "/v1/chat/completions", turn.question.owner, body, usage):
        yield content


def _annotations(turn: Turn, text: str) -> list[dict[str, Any]]:
    return [{"type": "file_citation", **asdict(citation)} for citation in turn.cite(text)]


def _extras(turn: Turn) -> dict[str, Any]:
    extras = {"session_id": turn.question.session_id, "omitted_messages": turn.omitted}
    return extras | shown_retrieval(turn)


def _generated(text: str, usage: dict[str, Any]) -> Generated:
    return Generated(text, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
