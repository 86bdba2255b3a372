"""The plain dialect: one request, one answer, for curl and scripts: generating and embedding."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from tunesmith_gateway.chat import Generated, Question, Turn
from tunesmith_gateway.dependencies import GatewayServices, Services
from tunesmith_gateway.disconnect import while_connected
from tunesmith_gateway.endpoints.retrieval import RetrievalOptions, shown_retrieval
from tunesmith_gateway.keys import Caller
from tunesmith_gateway.places import Generator, held
from tunesmith_gateway.sampling import consistent_text, shown, whole
from tunesmith_gateway.self_consistency import SelfConsistency
from tunesmith_gateway.sessions import checked_session_id
from tunesmith_gateway.sse import DONE, event
from tunesmith_shared.errors import BadRequest, TunesmithError, openai_body

router = APIRouter(tags=["plain"])

# llama.cpp's names in `params`, and the request's own, to Ollama's.
_OPTIONS = {
    "n_predict": "num_predict",
    "max_new_tokens": "num_predict",
    "temp": "temperature",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "stop": "stop",
    "repeat_penalty": "repeat_penalty",
    "repetition_penalty": "repeat_penalty",
    "ctx_size": "num_ctx",
    "seed": "seed",
}


class GenerateRequest(BaseModel):
    """The body of `/generate` and `/agenerate`. `params` takes the options under llama.cpp's names."""

    model_config = ConfigDict(extra="forbid")
    prompt: Annotated[str, Field(min_length=1, validation_alias=AliasChoices("prompt", "user_message"))]
    model: str | None = None
    system: str | None = None
    session_id: str | None = None
    documents: list[str] = Field(default_factory=list)
    vector_store_ids: list[str] = Field(default_factory=list)
    retrieval: RetrievalOptions = RetrievalOptions()
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0, le=5)] | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    self_consistency: SelfConsistency | None = None
    params: dict[str, Any] = Field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Return the options under Ollama's names; the request's own fields win over `params`."""
        unknown = sorted(set(self.params) - set(_OPTIONS))
        if unknown:
            known = ", ".join(sorted(_OPTIONS))
            raise BadRequest(f"Unknown in params: {', '.join(unknown)}. Known are: {known}.", param="params")
        own = self.model_dump(include=set(_OPTIONS), exclude_none=True)
        options = {_OPTIONS[name]: value for name, value in {**self.params, **own}.items()}
        if isinstance(options.get("stop"), str):
            options["stop"] = [options["stop"]]
        return options


class EmbeddingRequest(BaseModel):
    """A text to embed."""

    text: Annotated[str, Field(min_length=1)]
    model: str = "all-minilm"


@router.post("/generate")
async def generate(
    wanted: GenerateRequest, request: Request, services: GatewayServices, caller: Generator
) -> dict[str, Any]:
    """Answer a prompt."""
    turn = await while_connected(request.receive, _prepare(services, caller, wanted, held(request)))
    return await while_connected(request.receive, _whole(services, turn, wanted))


@router.post("/agenerate")
async def agenerate(
    wanted: GenerateRequest, request: Request, services: GatewayServices, caller: Generator
) -> StreamingResponse:
    """Answer a prompt as a stream: `{"response": piece}` events, then the whole answer as `/generate` gives it.

    With `self_consistency` there is one piece: the winner, when all samples are there.
    """
    turn = await while_connected(request.receive, _prepare(services, caller, wanted, held(request)))
    if wanted.self_consistency is not None:
        answer = await while_connected(request.receive, _whole(services, turn, wanted))
        return StreamingResponse(_at_once(answer), media_type="text/event-stream")
    return StreamingResponse(_streamed(services, turn, wanted.options()), media_type="text/event-stream")


@router.post("/embeddings")
async def embeddings(wanted: EmbeddingRequest, services: GatewayServices, caller: Generator) -> dict[str, Any]:
    """Embed a text."""
    model = await services.models.require(caller.owner, wanted.model)
    body = {"model": model, "input": wanted.text, "truncate": False}
    answer = await services.backends.route(model).call("POST", "/api/embed", owner=caller.owner, body=body)
    return {"embedding": answer["embeddings"][0], "model": model}


async def _prepare(services: Services, caller: Caller, wanted: GenerateRequest, until_sent: AsyncExitStack) -> Turn:
    model = await services.models.require(caller.owner, wanted.model or services.settings.default_model)
    session_id, options = checked_session_id(wanted.session_id), wanted.options()
    await until_sent.enter_async_context(services.sessions.turn(caller.owner, session_id))
    lead = [{"role": "system", "content": wanted.system}] if wanted.system else []
    return await services.chat.prepare(
        Question(
            owner=caller.owner,
            model=model,
            messages=[*lead, {"role": "user", "content": wanted.prompt}],
            session_id=session_id,
            documents=wanted.documents,
            vector_store_ids=wanted.vector_store_ids,
            retrieval=wanted.retrieval.retrieval(services.settings, model),
            room=_positive(options.get("num_predict")),
            num_ctx=_positive(options.get("num_ctx")),
        )
    )


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


async def _whole(services: Services, turn: Turn, wanted: GenerateRequest) -> dict[str, Any]:
    if wanted.self_consistency is None:
        return await _finished(services, turn, await whole(services.chat.generate(turn, wanted.options())))
    best, candidates = await consistent_text(services.chat, turn, wanted.options(), wanted.self_consistency)
    # The counted tokens are all samples'; how long the winner is, is not known.
    await services.chat.remember(turn, replace(best, completion_tokens=0))
    return {**_answer(turn, best), "candidates": shown(candidates)}


def _at_once(answer: dict[str, Any]) -> Iterator[bytes]:
    yield event(orjson.dumps({"response": answer["response"], "done": False}))
    yield event(orjson.dumps({**answer, "done": True}))
    yield event(DONE)


async def _streamed(services: Services, turn: Turn, options: dict[str, Any]) -> AsyncIterator[bytes]:
    try:
        async with aclosing(services.chat.generate(turn, options)) as parts:
            async for part in parts:
                if isinstance(part, Generated):
                    yield event(orjson.dumps({**await _finished(services, turn, part), "done": True}))
                else:
                    yield event(orjson.dumps({"response": part, "done": False}))
        yield event(DONE)
    except TunesmithError as error:
        yield event(orjson.dumps(openai_body(error)))


async def _finished(services: Services, turn: Turn, answer: Generated) -> dict[str, Any]:
    await services.chat.remember(turn, answer)
    return _answer(turn, answer)


def _answer(turn: Turn, answer: Generated) -> dict[str, Any]:
    citations = [{k: v for k, v in asdict(c).items() if k != "index"} for c in turn.cite(answer.text)]
    return {
        "response": answer.text,
        "session_id": turn.question.session_id,
        "model": turn.model,
        "citations": citations,
        "omitted_messages": turn.omitted,
        "usage": answer.usage,
        **shown_retrieval(turn),
    }
