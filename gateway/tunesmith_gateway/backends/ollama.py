"""A backend that speaks Ollama's API: the engine, or Ollama itself.

Requests pass as they are, but for what Ollama's `/v1` would get wrong: it ignores `max_completion_tokens` and puts 1.0
in place of the model's own temperature, so both are written out where a request needs them. And it cuts a prompt that
is longer than the context: the engine refuses one when it is told to, an Ollama is asked first where that can happen.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from tunesmith_gateway.answers import Answer
from tunesmith_gateway.backends.ollama_prompts import CUTTING, at_most, native_question
from tunesmith_gateway.backends.protocol import LARGE, Condition, Json, Offer
from tunesmith_gateway.model_names import canonical
from tunesmith_gateway.settings import BackendRow
from tunesmith_gateway.upstream import Outgoing, Timeouts, Upstream
from tunesmith_gateway.usage import spending
from tunesmith_shared.errors import NotFound

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class _Ways:
    """What decides how a request for a model is completed: its own sampling, and whether its server cuts prompts."""

    sampling: Json
    refuses_long_prompts: bool


_GENERATIONS = ("/v1/chat/completions", "/v1/completions")
_OWN_SAMPLING = ("temperature", "top_p")
_KEPT_SECONDS = 5.0
_MOST_KEPT = 1000


class OllamaBackend:
    """See `protocol.Backend`. Its store is where the gateway makes models."""

    keeps_models = True
    several_choices = False

    def __init__(self, row: BackendRow, session: aiohttp.ClientSession, timeouts: Timeouts, key: str) -> None:
        self.row = row
        self.condition = Condition()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._upstream = Upstream(row.title, row.url, session, headers, timeouts)
        self._known: dict[str, tuple[float, Any]] = {}

    @property
    def tries_choices(self) -> bool:
        """The engine knows `n`, Ollama does not: which one it is shows with the first answer."""
        return not self.condition.ignores_n

    async def send(self, request: Outgoing) -> Answer:
        """Pass the request on, completed where it generates."""
        body = request.body
        if body is not None:
            wanted = self._renamed(body)
            if request.path in CUTTING:
                model = str(wanted.get("model"))
                ways = await self._kept(f"ways {model}", lambda: self._ways(model))
                if request.path in _GENERATIONS:
                    wanted = completed(wanted, ways.sampling)
                if not wanted.get("truncate"):
                    wanted = await self._whole(request, wanted, ways)
            if wanted != body:
                request = request._replace(content=None, body=wanted)
        return await self._upstream.send(request)

    async def choices_body(self, conversation: Json, count: int) -> Json | None:
        """Return the conversation with `n`, where the server knows Ollama's options on its `/v1` as the engine does."""
        known = await self._extensions()
        return {**conversation, "n": count, "stream": False} if {"n", "options"} <= known else None

    async def models(self) -> list[Offer]:
        """Return what `/api/tags` lists, under the public names."""
        return await self._offers("/api/tags")

    async def loaded(self) -> list[Offer]:
        """Return what `/api/ps` lists, under the public names."""
        return await self._offers("/api/ps")

    async def context(self, model: str) -> int | None:
        """Return the context with which `model` is loaded; None when it is not, or the server does not say."""
        wanted = canonical(model)
        lengths = [offer.tag.get("context_length") for offer in await self.loaded() if offer.name == wanted]
        return int(lengths[0]) if lengths and lengths[0] else None

    async def large(self, model: str) -> bool:
        """Return whether what `/api/show` counts is enough; a model that is not there is none."""
        info: Json = (await self._shown(model)).get("model_info") or {}
        return int(info.get("general.parameter_count") or 0) >= LARGE

    async def check(self) -> None:
        """Raise when the server does not tell its version."""
        await self._upstream.check("/api/version")

    async def _whole(self, request: Outgoing, body: Json, ways: _Ways) -> Json:
        """Return `body`, not to be cut. Raises `BadRequest` when a server that would cut it says it is too long."""
        if not ways.refuses_long_prompts:
            model = str(body.get("model"))
            context = await self._kept(f"context {model}", lambda: self.context(model))
            if context is None or at_most(body) > context:
                paused = spending.set(None)  # the request itself pays for these tokens
                try:
                    await self._upstream.call_for(native_question(request.path, request.owner, body))
                finally:
                    spending.reset(paused)
        return {**body, "truncate": False}

    async def _ways(self, model: str) -> _Ways:
        """Return how requests for `model` are completed, asked for all at once: a first token waits for it."""
        return _Ways(*await asyncio.gather(self._sampling(model), self._refuses_long_prompts()))

    async def _refuses_long_prompts(self) -> bool:
        """Return whether the server knows `truncate` on its `/v1`, too."""
        return "truncate" in await self._extensions()

    async def _extensions(self) -> frozenset[str]:
        """Return what the server's `/v1` knows beyond Ollama's, as the engine says it."""
        told: Json = await self._kept("version", lambda: self._upstream.call("GET", "/api/version", owner=""))
        return frozenset(told.get("extensions", ()))

    async def _kept(self, what: str, read: Callable[[], Awaitable[Kept]]) -> Kept:
        """Return what `read` gives, or gave a few seconds ago: every request needs it."""
        kept = self._known.get(what)
        if kept is None or kept[0] < time.monotonic():
            if len(self._known) >= _MOST_KEPT:
                self._known.clear()
            kept = (time.monotonic() + _KEPT_SECONDS, await read())
            if kept[1] is not None:  # what is not known yet, such as the context of a model that loads, soon is
                self._known[what] = kept
        value: Kept = kept[1]
        return value

    def _renamed(self, body: Json) -> Json:
        own = self.row.renames.get(str(body.get("model")))
        return {**body, "model": own} if own else body

    async def _offers(self, path: str) -> list[Offer]:
        public = {canonical(own): name for name, own in self.row.renames.items()}
        tags: list[Json] = (await self._upstream.call("GET", path, owner=""))["models"]
        offers = []
        for tag in tags:
            own = canonical(tag["name"])
            name = public.get(own)
            offers.append(Offer(canonical(name), {**tag, "name": name, "model": name}) if name else Offer(own, tag))
        return offers

    async def _shown(self, model: str) -> Json:
        """Return what the server shows of a model, or showed a few seconds ago; nothing when it is not there."""

        async def show() -> Json:
            try:
                shown: Json = await self._upstream.call("POST", "/api/show", owner="", body={"model": model})
            except NotFound:
                return {}
            return shown

        return await self._kept(f"show {model}", show)

    async def _sampling(self, model: str) -> Json:
        """Return the model's own temperature and top_p, where it has them."""
        shown = await self._shown(model)
        lines = (line.split(maxsplit=1) for line in (shown.get("parameters") or "").splitlines())
        return {words[0]: float(words[1]) for words in lines if words and words[0] in _OWN_SAMPLING}


def completed(body: Json, sampling: Json) -> Json:
    """Return `body` with the model's own `sampling` where the request has none, and with Ollama's name of the limit."""
    limit = body.get("max_completion_tokens")
    complete = {name: value for name, value in body.items() if name != "max_completion_tokens"}
    if limit is not None:
        complete.setdefault("max_tokens", limit)
    for name, value in sampling.items():
        if complete.get(name) is None:
            complete[name] = value
    return complete
