"""Vectors for texts, behind one Protocol, and its implementation at the model server, through Ollama's API.

The other implementation, in this process, is `embed_openvino.py`; `embed_choice.py` decides between the two.
"""

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import httpx
import ollama

from tunesmith_rag.tokens import SPECIAL_TOKENS, TokenCounter, token_counter
from tunesmith_shared.errors import Unavailable, UpstreamFailed
from tunesmith_shared.tracing import http_hooks

_logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_REQUEST_SECONDS = 300.0
_GLANCE_SECONDS = 1.0
_PASSING = {404, 408, 429, 502, 503, 504}
"""Answers after which the same request can succeed; 404 is a model that is still being prepared."""

Answer = TypeVar("Answer")

Vector = list[float]


@dataclass(frozen=True)
class EmbeddingModel:
    """What is known about a model: the longest text it takes in its own tokens, and how to count them."""

    name: str
    max_tokens: int
    count: TokenCounter


class ModelAway(Unavailable):
    """The embedding model is not there, or its server does not answer; it may be there later."""


class Embedder(Protocol):
    """Makes vectors. `patience` is how many seconds a call may wait for a model that is still being prepared."""

    async def model(self, name: str, patience: float) -> EmbeddingModel:
        """Return what is known about the embedding model `name`."""

    async def embed(self, name: str, texts: Sequence[str], patience: float) -> list[Vector]:
        """Return one vector a text, in order. No text is cut: one that is too long is an error."""

    async def close(self) -> None:
        """Release connections."""


class OllamaEmbedder:
    """Embeds through `/api/embed` of whatever answers Ollama's API at `host`."""

    def __init__(self, host: str, max_tokens: int, batch: int = 8) -> None:
        self._batch = batch
        self._client = ollama.AsyncClient(host=host, timeout=_REQUEST_SECONDS, **http_hooks())
        self._http = httpx.AsyncClient(base_url=host, timeout=_REQUEST_SECONDS, **http_hooks())
        self._max_tokens = max_tokens
        self._models: dict[str, EmbeddingModel] = {}
        self._one = asyncio.Lock()

    async def model(self, name: str, patience: float) -> EmbeddingModel:
        """Describe `name` from what the server shows about it; asked once, then remembered."""
        if name not in self._models:
            shown = await _patiently(lambda: self._show(name), name, patience)
            info = shown.get("model_info") or {}
            longest = min([self._max_tokens, *_contexts(info, shown.get("parameters") or "")]) - SPECIAL_TOKENS
            self._models[name] = EmbeddingModel(name, longest, token_counter(name, info))
        return self._models[name]

    async def embed(self, name: str, texts: Sequence[str], patience: float) -> list[Vector]:
        """Embed `texts`, `batch` in a request, and one such request at a time, so that a search, which needs one only
        and is not held up here, never waits for more than one of these.

        Raises `UpstreamFailed` for an answer that cannot be stored.
        """
        parts = [texts[start : start + self._batch] for start in range(0, len(texts), self._batch)]
        place = self._one if len(parts) > 1 else nullcontext()
        return [vector for part in parts for vector in await self._embed(name, part, patience, place)]

    async def on_gpu(self) -> bool:
        """Say whether the server has a model on a GPU now; no when it does not answer."""
        try:
            async with asyncio.timeout(_GLANCE_SECONDS):
                return any(model.size_vram for model in (await self._client.ps()).models)
        except (TimeoutError, ConnectionError, httpx.TransportError, ollama.ResponseError):
            return False

    async def _embed(
        self, name: str, texts: Sequence[str], patience: float, place: AbstractAsyncContextManager[None]
    ) -> list[Vector]:
        async def ask() -> ollama.EmbedResponse:
            async with place:  # not while a model that is away is waited for: others may be there
                return await self._client.embed(name, list(texts), truncate=False)

        answer = await _patiently(ask, name, patience)
        vectors = [list(vector) for vector in answer.embeddings]
        if len(vectors) != len(texts) or any(not _usable(vector, vectors[0]) for vector in vectors):
            raise UpstreamFailed(f"The embedding model {name} gave vectors that cannot be used. Load the model again.")
        return vectors

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._http.aclose()
        await self._client.close()  # type: ignore[no-untyped-call]

    async def _show(self, name: str) -> dict[str, Any]:
        # The client library has no `verbose`, without which the vocabulary is left out.
        response = await self._http.post("/api/show", json={"model": name, "verbose": True})
        if response.is_error:
            raise ollama.ResponseError(response.text, response.status_code)
        shown: dict[str, Any] = response.json()
        return shown


def _contexts(info: Mapping[str, Any], parameters: str) -> list[int]:
    """Return the lengths that the model's file and its parameters name, in tokens."""
    trained = [int(value) for key, value in info.items() if key.endswith(".context_length")]
    return trained + [int(number) for number in re.findall(r"^num_ctx\s+(\d+)", parameters, re.MULTILINE)]


def _usable(vector: Vector, first: Vector) -> bool:
    return len(vector) == len(first) > 0 and all(map(math.isfinite, vector))


async def _patiently(call: Callable[[], Awaitable[Answer]], name: str, patience: float) -> Answer:
    """Repeat `call` while the server is starting, busy or has not got the model yet, for `patience` seconds.

    Raises `ModelAway` when the time is over and `UpstreamFailed` for what waiting does not mend.
    """
    clock = asyncio.get_running_loop().time
    deadline, pause = clock() + patience, _FIRST_PAUSE
    while True:
        try:
            return await call()
        except (ConnectionError, httpx.TransportError, ollama.ResponseError) as error:
            if isinstance(error, ollama.ResponseError) and error.status_code not in _PASSING:
                raise UpstreamFailed(f"The embedding model {name} refused: {error.error}") from error
            if clock() + pause > deadline:
                raise _gave_up(error, name) from error
            _logger.info("waiting for the embedding model %s: %s", name, error)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _gave_up(error: Exception, name: str) -> ModelAway:
    if isinstance(error, ollama.ResponseError) and error.status_code == 404:
        return ModelAway(
            f"The embedding model {name} is not there. Load it (`ollama pull {name}`), or wait when the platform is "
            "preparing it at its first start.",
            code="embedding_model_missing",
            retry_after=5,
        )
    return ModelAway(f"The model server does not answer for the embedding model {name}. Try again.", retry_after=5)
