"""A backend that speaks OpenAI's API: vLLM, llama.cpp's server, OpenAI itself.

OpenAI's routes pass as they are, with the backend's own key. Ollama's chat, generate, embed and show are translated, so
that every dialect of the gateway, sessions and documents work there, too; what has no equivalent is refused.
"""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import orjson

from tunesmith_gateway.answers import Answer, MadeAnswer
from tunesmith_gateway.backends import native_answers, native_requests
from tunesmith_gateway.backends.protocol import Condition, Json, Offer
from tunesmith_gateway.model_names import identity
from tunesmith_gateway.settings import BackendRow
from tunesmith_gateway.upstream import Outgoing, Timeouts, Upstream
from tunesmith_shared.errors import Unsupported, UpstreamFailed

_PASSED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
_OURS = ("truncate",)  # a field of this platform's engine, which no other server need know


@dataclass(frozen=True, slots=True)
class _Translation:
    """How a route of Ollama's is asked here: where, the request's body, and the answer's pieces."""

    path: str
    request: Callable[[Json, BackendRow], Json]
    answer: Callable[[Answer, Json], AsyncGenerator[bytes]]


_CHAT = "/v1/chat/completions"
_TRANSLATED = {
    "/api/chat": _Translation(_CHAT, native_requests.chat, native_answers.chat),
    "/api/generate": _Translation(_CHAT, native_requests.generate, native_answers.generate),
    "/api/embed": _Translation("/v1/embeddings", native_requests.embed, native_answers.embed),
    "/api/embeddings": _Translation("/v1/embeddings", native_requests.embeddings, native_answers.embeddings),
}


class OpenAiBackend:
    """See `protocol.Backend`. It has the models that its `/v1/models` lists, and no others can be made there."""

    keeps_models = False

    def __init__(self, row: BackendRow, session: aiohttp.ClientSession, timeouts: Timeouts, key: str) -> None:
        self.row = row
        self.condition = Condition()
        self.several_choices = self.tries_choices = row.several_choices
        headers = {"authorization": f"Bearer {key}"} if key else {}
        url = row.url.removesuffix("/v1")
        self._upstream = Upstream(row.title, url, session, headers, timeouts, tells_owner=False)
        self._own_names: dict[str, str] = {}
        self._contexts: dict[str, int] = {}

    async def send(self, request: Outgoing) -> Answer:
        """Pass a request on, or translate it and its answer."""
        body = request.body
        translation = _TRANSLATED.get(request.path)
        if request.path in _PASSED and body is not None:
            wanted = {name: value for name, value in self._addressed(body).items() if name not in _OURS}
            return await self._send(request if wanted == body else request._replace(content=None, body=wanted))
        if translation is not None and body is not None:
            return await self._translated(translation, request, body)
        if request.path == "/api/show" and body is not None:
            return _made(_description(self._addressed(body)["model"]))
        raise Unsupported(
            f"The {self.row.title} speaks OpenAI's API and has no {request.path}. Use a model of an Ollama backend."
        )

    async def choices_body(self, _conversation: Json, _count: int) -> Json | None:
        """Return None: such servers count the seeds of several choices in ways of their own, or refuse many."""
        return None

    async def models(self) -> list[Offer]:
        """Return what `/v1/models` lists, a renamed model under its public name."""
        listed: list[Json] = (await self._upstream.call("GET", "/v1/models", owner=""))["data"]
        public = {own: name for name, own in self.row.renames.items()}
        offers = [_offer(model, public.get(model["id"]) or model["id"]) for model in listed]
        self._own_names = {identity(offer.name): model["id"] for offer, model in zip(offers, listed, strict=True)}
        lengths = {identity(o.name): model.get("max_model_len") for o, model in zip(offers, listed, strict=True)}
        self._contexts = {name: int(length) for name, length in lengths.items() if length}
        return offers

    async def loaded(self) -> list[Offer]:
        """Return nothing: such servers do not tell what is in memory."""
        return []

    async def context(self, model: str) -> int | None:
        """Return what the row says, or the server (vLLM does, with its list of models)."""
        return self.row.context or self._contexts.get(identity(model))

    async def large(self, _model: str) -> bool:
        """Return that it is: such servers do not tell."""
        return True

    async def check(self) -> None:
        """Raise when the server does not list its models."""
        await self._upstream.check("/v1/models")

    def _addressed(self, body: Json) -> Json:
        """Return `body` with the backend's own name of the model."""
        name = str(body.get("model") or body.get("name") or "")
        own = self.row.renames.get(name) or self._own_names.get(identity(name), name)
        return body if body.get("model") == own else {**body, "model": own}

    async def _translated(self, translation: _Translation, request: Outgoing, body: Json) -> Answer:
        if native_requests.only_loads(request.path, body):
            return _made(native_answers.loaded(request.path, body))
        wanted = translation.request(self._addressed(body), self.row)
        answer = await self._send(request._replace(path=translation.path, content=None, body=wanted))
        if answer.status >= 300:
            return answer
        kind = "application/x-ndjson" if wanted.get("stream") else "application/json"
        return MadeAnswer(kind, translation.answer(answer, body), answer)

    async def _send(self, request: Outgoing) -> Answer:
        answer = await self._upstream.send(request)
        if answer.status in (401, 403):
            answer.close()
            source = f"the variable {self.row.api_key_env}" if self.row.api_key_env else "api_key_env in its row"
            raise UpstreamFailed(f"The {self.row.title} refused the gateway's key. Check {source}.")
        return answer


def _made(body: Json) -> MadeAnswer:
    async def pieces() -> AsyncGenerator[bytes]:
        yield orjson.dumps(body)

    return MadeAnswer("application/json", pieces())


def _offer(model: Json, name: str) -> Offer:
    """Return a listed model under its public name, as Ollama's `tags` would list it."""
    made = datetime.fromtimestamp(int(model.get("created") or 0), UTC).isoformat()
    tag = {"name": name, "model": name, "modified_at": made, "size": 0, "digest": "", "details": dict(_NO_DETAILS)}
    return Offer(name, tag)


_NO_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}


def _description(name: str) -> Json:
    """Return what `show` can say of a model whose file is elsewhere."""
    return {
        "modelfile": f"FROM {name}\n",
        "parameters": "",
        "template": "",
        "details": dict(_NO_DETAILS),
        "model_info": {},
        "capabilities": ["completion"],
    }
