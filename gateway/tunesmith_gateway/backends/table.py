"""The table of backends: which of them a model's requests go to, what models there are, and who keeps the store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import aiohttp

from tunesmith_gateway.backends.health import watching
from tunesmith_gateway.backends.ollama import OllamaBackend
from tunesmith_gateway.backends.openai import OpenAiBackend
from tunesmith_gateway.backends.protocol import Backend, Offer
from tunesmith_gateway.backends.route import Route
from tunesmith_gateway.model_names import canonical, identity
from tunesmith_gateway.settings import BackendRow, GatewaySettings
from tunesmith_gateway.upstream import Timeouts
from tunesmith_shared.errors import BadRequest, Unsupported

_ANY = "*"
_KINDS: dict[str, Callable[[BackendRow, aiohttp.ClientSession, Timeouts, str], Backend]] = {
    "ollama": OllamaBackend,
    "openai": OpenAiBackend,
}


@dataclass(frozen=True, slots=True)
class Offered:
    """A model and the backend that has it."""

    backend: Backend
    offer: Offer


class BackendTable:
    """All backends, in the order of the configuration."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self.backends = tuple(backends)
        self._stores = [backend for backend in self.backends if backend.keeps_models]

    @classmethod
    def of(cls, settings: GatewaySettings, session: aiohttp.ClientSession) -> "BackendTable":
        """Return the configured table over a shared session."""
        return cls(
            [
                _KINDS[row.kind](row, session, _timeouts(row, settings), settings.backend_key(row))
                for row in settings.backends
            ]
        )

    def route(self, model: str) -> Route:
        """Return the way of requests for `model`, a name that clients use.

        Rows that name the model by a pattern of their own come before those that take any; among them count those that
        list it, or, when nobody does, those where it may have appeared meanwhile. The healthy go first, then those
        with the fewest open requests.
        """
        if len(self.backends) == 1 and self._stores and self.backends[0].row.models == (_ANY,):
            return Route(model, self.backends)
        key = identity(model)
        named = [backend for backend in self.backends if _names(backend.row, key, model)]
        others = [backend for backend in self.backends if backend not in named and _ANY in backend.row.models]
        chosen = (
            [backend for backend in named if _lists(backend, key)]
            or [backend for backend in others if _lists(backend, key)]
            or [backend for backend in named or others if _may_have(backend)]
        )
        chosen.sort(key=lambda backend: (not backend.condition.healthy, backend.condition.running))
        return Route(model, chosen)

    def named(self, name: str) -> Backend:
        """Return the backend of the row with this name."""
        return next(backend for backend in self.backends if backend.row.name == name)

    def store(self) -> Route:
        """Return the way to the store where models are made and deleted: the first row that keeps models.

        Raises `Unsupported` when no row does.
        """
        if not self._stores:
            raise Unsupported("No backend here keeps models: add a row of the kind 'ollama' to make and delete some.")
        return Route("", self._stores[:1])

    def in_store(self, offered: Offered) -> bool:
        """Whether a model is where models are made and deleted."""
        return offered.backend in self._stores[:1]

    def identity(self, name: str) -> str:
        """Return the one text for all spellings of a model's name.

        Raises `BadRequest` for a name that Ollama could not have and no backend lists.
        """
        try:
            return canonical(name)
        except BadRequest:
            if any(name in (backend.condition.models or ()) for backend in self.backends):
                return name
            raise

    async def models(self) -> dict[str, Offered]:
        """Return the models of all backends that answer, by identity; the first row that has one gives it.

        Raises the first error when none answers.
        """
        return await self._merged(lambda backend: backend.models())

    async def loaded(self) -> dict[str, Offered]:
        """Return the models that are in memory, as `models` does."""
        return await self._merged(lambda backend: backend.loaded())

    async def check(self) -> None:
        """Raise when no backend answers."""
        outcomes = await asyncio.gather(*(backend.check() for backend in self.backends), return_exceptions=True)
        failures = [outcome for outcome in outcomes if outcome is not None]
        if len(failures) == len(self.backends):
            raise failures[0]

    @asynccontextmanager
    async def watched(self, seconds: float) -> AsyncIterator[None]:
        """Check the backends every so many seconds, for as long as the block lasts."""
        async with watching(self.backends, seconds):
            yield

    async def _merged(self, ask: Callable[[Backend], Coroutine[Any, Any, list[Offer]]]) -> dict[str, Offered]:
        answers = await asyncio.gather(*(ask(backend) for backend in self.backends), return_exceptions=True)
        merged: dict[str, Offered] = {}
        failures: list[BaseException] = []
        for backend, answer in zip(self.backends, answers, strict=True):
            if isinstance(answer, BaseException):
                failures.append(answer)
                continue
            for offer in answer:
                key = identity(offer.name)
                if _names(backend.row, key, offer.name) or _ANY in backend.row.models:
                    merged.setdefault(key, Offered(backend, offer))
        if len(failures) == len(self.backends):
            raise failures[0]
        return merged


def _names(row: BackendRow, key: str, name: str) -> bool:
    """Whether a row has a pattern of its own for a model; a pattern without a tag means each of its tags."""
    spellings = (key.lower(), name.lower(), key.lower().partition(":")[0])
    patterns = [pattern.lower() for pattern in row.models if pattern != _ANY]
    return any(fnmatchcase(spelling, pattern) for pattern in patterns for spelling in spellings)


def _lists(backend: Backend, key: str) -> bool:
    return key in (backend.condition.models or ())


def _may_have(backend: Backend) -> bool:
    """Whether a model can be there that the last check has not seen."""
    return backend.keeps_models or backend.condition.models is None


def _timeouts(row: BackendRow, settings: GatewaySettings) -> Timeouts:
    return Timeouts(
        row.connect_timeout or settings.connect_timeout,
        row.first_byte_timeout or settings.first_byte_timeout,
        row.between_bytes_timeout or settings.between_bytes_timeout,
    )
