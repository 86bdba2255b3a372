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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx
from ollama import AsyncClient, ResponseError

from tunesmith_finetune.artifact import Artifact
from tunesmith_finetune.upload import Uploader
from tunesmith_shared.errors import NotFound, TunesmithError
from tunesmith_shared.names import CANDIDATES, ModelName
from tunesmith_shared.store import Manifest, ModelStore, publish_adapter, publish_gguf

LOAD_SECONDS = 300.0
SERVER_SECONDS = 120.0

_logger = logging.getLogger("tunesmith.publish")


class CheckFailed(TunesmithError):
    """The finished model does not load or does not answer; it gets no name."""

    default_code = "model_check_failed"


@dataclass(frozen=True)
class Answer:
    """What the model said to the check's prompt, and its pace in tokens a second.

    `upload_reason` says why the file had to be uploaded; empty when it went through the shared store.
    """

    prompt: str
    text: str
    tokens_per_second: float
    upload_reason: str = ""


class _OutOfReach(Exception):
    """The store is not one that the worker can write and the server serves from; says why."""


class Publisher:
    """Registers model files with the server at `ollama_host`: in its store if that is `store`, else over its API."""

    def __init__(self, store: ModelStore, ollama_host: str) -> None:
        self._store = store
        self._client = AsyncClient(host=ollama_host, timeout=LOAD_SECONDS)
        self._uploader = Uploader(ollama_host, self._client)

    async def close(self) -> None:
        """Close the connections."""
        await self._uploader.close()
        await self._client.close()  # type: ignore[no-untyped-call]

    async def try_candidate(self, job_id: str, artifact: Artifact, prompt: str) -> Answer:
        """Serve `artifact` under a candidate name, ask it `prompt`, and unload it.

        Raises `CheckFailed` when it does not load or says nothing.
        """
        name = _candidate(job_id)
        await self._wait_for_server()
        try:
            _, upload_reason = await self._place(name, artifact)
            answer = await self._client.chat(
                name.display,
                messages=[{"role": "user", "content": prompt}],
                options={"temperature": 0, "num_predict": 96},
                keep_alive=0,
            )
        except (ResponseError, httpx.HTTPError, ConnectionError) as error:
            raise CheckFailed(f"The finished model does not load and answer: {error}") from error
        finally:
            await self.withdraw_candidate(job_id)
        text = (answer.message.content or "").strip()
        if not text:
            raise CheckFailed("The finished model loads and says nothing.")
        seconds = (answer.eval_duration or 0) / 1e9
        return Answer(prompt, text, round((answer.eval_count or 0) / seconds, 1) if seconds else 0.0, upload_reason)

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
            return publish_gguf(self._store, name, artifact.gguf, system=None, parameters=artifact.parameters)
        return publish_adapter(
            self._store,
            name,
            artifact.gguf,
            artifact.adapter,
            base_name=artifact.base_name,
            parameters=artifact.parameters,
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
