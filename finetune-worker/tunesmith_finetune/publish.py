"""A finished model file gets a name: through the model store on the shared volume, then seen over Ollama's API.

Where the store cannot be written, or is not the one that the server serves from, the file is uploaded instead.

Before it has its own name it is served under a candidate name, and has to load and to answer there. A model of the
same name is replaced by one rename of its manifest, so it serves until the new one does.
"""

import asyncio
import errno
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import httpx
from ollama import AsyncClient, ResponseError

from tunesmith_finetune.artifact import Artifact
from tunesmith_finetune.datasets.cells import Message
from tunesmith_finetune.upload import Uploader
from tunesmith_shared.errors import NotFound, TunesmithError
from tunesmith_shared.names import CANDIDATES, ModelName
from tunesmith_shared.store import Manifest, ModelStore, publish_adapter, publish_gguf
from tunesmith_shared.tracing import http_hooks

LOAD_SECONDS = 300.0
ANSWER_TOKENS = 96
SERVER_SECONDS = 120.0

_logger = logging.getLogger("tunesmith.publish")


class CheckFailed(TunesmithError):
    """The finished model does not load or does not answer; it gets no name."""

    default_code = "model_check_failed"


@dataclass(frozen=True)
class Answer:
    """What a model said to a prompt, and its pace in tokens a second."""

    prompt: str
    text: str
    tokens_per_second: float


@dataclass(frozen=True)
class Candidate:
    """A finished model under the name that it is tried under.

    `upload_reason` says why the file had to be uploaded; empty when it went through the shared store.
    """

    name: str
    upload_reason: str


@contextmanager
def _unanswered() -> Iterator[None]:
    """Turn what a server answers, or does not, into `CheckFailed`."""
    try:
        yield
    except (ResponseError, httpx.HTTPError, ConnectionError) as error:
        raise CheckFailed(f"The finished model does not load and answer: {error}") from error


class _OutOfReach(Exception):
    """The store is not one that the worker can write and the server serves from; says why."""


class Publisher:
    """Registers model files with the server at `ollama_host`: in its store if that is `store`, else over its API."""

    def __init__(self, store: ModelStore, ollama_host: str) -> None:
        self._store = store
        self._client = AsyncClient(host=ollama_host, timeout=LOAD_SECONDS, **http_hooks())
        self._http = httpx.AsyncClient(base_url=ollama_host, timeout=LOAD_SECONDS, **http_hooks())
        self._uploader = Uploader(ollama_host, self._client)

    async def close(self) -> None:
        """Close the connections."""
        await self._uploader.close()
        await self._http.aclose()
        await self._client.close()  # type: ignore[no-untyped-call]

    @asynccontextmanager
    async def candidate(self, job_id: str, artifact: Artifact) -> AsyncIterator[Candidate]:
        """Serve `artifact` under a candidate name for the time of the block; unload it then.

        Raises `CheckFailed` when the server does not take it.
        """
        name = _candidate(job_id)
        await self._wait_for_server()
        try:
            with _unanswered():
                _, upload_reason = await self._place(name, artifact)
            yield Candidate(name.display, upload_reason)
        finally:
            with suppress(ResponseError, httpx.HTTPError, ConnectionError):
                await self._client.generate(name.display, keep_alive=0)
            await self.withdraw_candidate(job_id)

    async def ask(self, name: str, messages: Sequence[Message]) -> Answer:
        """Return what the model `name` answers, its likeliest words. Raises `CheckFailed` when it does not answer."""
        with _unanswered():
            answer = await self._client.chat(
                name, messages=list(messages), options={"temperature": 0, "num_predict": ANSWER_TOKENS}
            )
        seconds = (answer.eval_duration or 0) / 1e9
        pace = round((answer.eval_count or 0) / seconds, 1) if seconds else 0.0
        return Answer(messages[-1]["content"], (answer.message.content or "").strip(), pace)

    async def rendered(self, name: str, messages: Sequence[Message]) -> str | None:
        """Return the text that the server makes of a chat with the model `name`; None when it does not tell.

        Ollama and the engine tell it on `_debug_render_only`. Raises `CheckFailed` when the model does not load.
        """
        options = {"num_predict": 1}  # for a server that answers instead
        body = {"model": name, "messages": list(messages), "stream": False, "options": options}
        with _unanswered():
            response = await self._http.post("/api/chat", json={**body, "_debug_render_only": True})
            response.raise_for_status()
        told = (response.json().get("_debug_info") or {}).get("rendered_template")
        return str(told) if told else None

    async def served(self, names: Sequence[str]) -> str | None:
        """Return the first of `names` that the server lists."""
        for name in names:
            with suppress(ResponseError, httpx.HTTPError, ConnectionError):
                if await self._served_digest(ModelName.parse(name)) is not None:
                    return name
        return None

    async def candidates(self) -> list[str]:
        """Return the jobs whose candidates the store has."""
        listed = await asyncio.to_thread(self._store.list)
        return [model.name.model for model in listed if model.name.namespace == CANDIDATES]

    async def withdraw_candidate(self, job_id: str) -> None:
        """Remove the candidate name of a job, if it is there; a server that is gone keeps it."""
        name = _candidate(job_id)
        try:
            await asyncio.to_thread(self._store.delete, name)
        except (NotFound, OSError):
            with suppress(NotFound, ResponseError, httpx.HTTPError, ConnectionError):
                await self._uploader.remove(name)

    async def publish(self, name: ModelName, artifact: Artifact) -> str:
        """Register `artifact` as `name`, replacing a model of that name, and give the manifest's digest.

        Raises `CheckFailed` when the server does not answer or does not list it.
        """
        try:
            digest, _ = await self._place(name, artifact)
        except (ResponseError, httpx.HTTPError, ConnectionError) as error:
            raise CheckFailed(f"The model is finished and the server does not register it: {error}") from error
        return digest

    async def _place(self, name: ModelName, artifact: Artifact) -> tuple[str, str]:
        """Let the server have `artifact` as `name`; gives its digest, and why it was uploaded if it was."""
        try:
            return await self._place_in_store(name, artifact), ""
        except _OutOfReach as closed:
            reason = str(closed)
        _logger.warning("%s: %s is uploaded instead", reason, name.display)
        await self._uploader.register(name, artifact)
        digest = await self._served_digest(name)
        if digest is None:
            raise CheckFailed(f"{name.display} is uploaded, and the server does not list it.")
        return digest, reason

    async def _place_in_store(self, name: ModelName, artifact: Artifact) -> str:
        """Write `artifact` into the store as `name`. Raises `_OutOfReach` when that is not where the server looks."""
        try:
            manifest = await asyncio.to_thread(self._register, name, artifact)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise _OutOfReach(f"The model store {self._store.models_dir} is not writable") from error
            raise
        if await self._served_digest(name) == manifest.digest:
            return manifest.digest
        with suppress(NotFound):
            await asyncio.to_thread(self._store.delete, name)
        raise _OutOfReach(f"The server does not serve from the model store {self._store.models_dir}")

    async def _served_digest(self, name: ModelName) -> str | None:
        """Return the digest of the manifest that the server has for `name`; None when it has none."""
        for model in (await self._client.list()).models:
            if ModelName.parse(model.model or "").key == name.key:
                return (model.digest or "").removeprefix("sha256:")
        return None

    def _register(self, name: ModelName, artifact: Artifact) -> Manifest:
        if artifact.adapter is None:
            return publish_gguf(
                self._store, name, artifact.gguf, system=artifact.system, parameters=artifact.parameters
            )
        return publish_adapter(
            self._store,
            name,
            artifact.gguf,
            artifact.adapter,
            base_name=artifact.base_name,
            parameters=artifact.parameters,
            system=artifact.system,
        )

    async def parameters_of(self, names: Sequence[str]) -> dict[str, object]:
        """Return the options that the first of `names` serves with; none when none is there."""
        for name in names:
            with suppress(NotFound):
                return await asyncio.to_thread(self._stored_parameters, name)
        for name in names:
            with suppress(NotFound, ResponseError, httpx.HTTPError, ConnectionError):
                return await self._uploader.parameters_of(name)
        return {}

    def _stored_parameters(self, name: str) -> dict[str, object]:
        manifest = self._store.read_manifest(ModelName.parse(name))
        layers = manifest.of_kind("params")
        parameters: dict[str, object] = json.loads(self._store.read_blob(layers[-1])) if layers else {}
        return parameters

    async def _wait_for_server(self) -> None:
        """Return when the server answers; a job of hours does not fail because it is restarted just now."""
        deadline = time.monotonic() + SERVER_SECONDS
        while True:
            try:
                await self._client.list()
            except (ResponseError, httpx.HTTPError, ConnectionError) as error:
                if time.monotonic() > deadline:
                    raise CheckFailed(f"The model is finished and the server does not answer: {error}") from error
                await asyncio.sleep(1)
            else:
                return

    async def is_served(self, name: ModelName) -> bool:
        """Whether there is a model `name`, whoever made it; a server that does not answer has none."""
        if await asyncio.to_thread(self._store.has_model, name):
            return True
        with suppress(ResponseError, httpx.HTTPError, ConnectionError):
            return await self._served_digest(name) is not None
        return False


def _candidate(job_id: str) -> ModelName:
    return ModelName.parse(f"{CANDIDATES}/{job_id}")
