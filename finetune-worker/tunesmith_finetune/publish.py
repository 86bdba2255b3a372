"""A finished model file gets a name: through the model store on the shared volume, then seen over Ollama's API.

Before it has its own name it is served under a candidate name, and has to load and to answer there. A model of the
same name is replaced by one rename of its manifest, so it serves until the new one does.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from ollama import AsyncClient, ResponseError

from tunesmith_shared.errors import NotFound, TunesmithError
from tunesmith_shared.names import CANDIDATES, ModelName
from tunesmith_shared.store import Manifest, ModelStore, publish_adapter, publish_gguf

LOAD_SECONDS = 300.0
SERVER_SECONDS = 120.0


class CheckFailed(TunesmithError):
    """The finished model does not load or does not answer; it gets no name."""

    default_code = "model_check_failed"


@dataclass(frozen=True)
class Answer:
    """What the model said to the check's prompt, and its pace in tokens a second."""

    prompt: str
    text: str
    tokens_per_second: float


@dataclass(frozen=True)
class Artifact:
    """What a job made: a model file, or with `adapter` the base's file and what was learnt on top of it.

    `base_name` is the served model that the adapter's base is; `parameters` are the options to serve with.
    """

    gguf: Path
    parameters: Mapping[str, object]
    adapter: Path | None = None
    base_name: str = ""


class Publisher:
    """Registers model files in the store that the server at `ollama_host` serves from."""

    def __init__(self, store: ModelStore, ollama_host: str) -> None:
        self._store = store
        self._client = AsyncClient(host=ollama_host, timeout=LOAD_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def try_candidate(self, job_id: str, artifact: Artifact, prompt: str) -> Answer:
        """Serve `artifact` under a candidate name, ask it `prompt`, and unload it.

        Raises `CheckFailed` when it does not load or says nothing.
        """
        name = _candidate(job_id)
        await self._wait_for_server()
        await asyncio.to_thread(self._register, name, artifact)
        try:
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
        return Answer(prompt, text, round((answer.eval_count or 0) / seconds, 1) if seconds else 0.0)

    async def withdraw_candidate(self, job_id: str) -> None:
        """Remove the candidate name of a job, if it is there."""
        with suppress(NotFound):
            await asyncio.to_thread(self._store.delete, _candidate(job_id))

    async def publish(self, name: ModelName, artifact: Artifact) -> str:
        """Register `artifact` as `name`, replacing a model of that name, and give the manifest's digest.

        Raises `CheckFailed` when the server does not list it, because it serves from another store.
        """
        manifest = await asyncio.to_thread(self._register, name, artifact)
        try:
            listed = {ModelName.parse(model.model or "").key for model in (await self._client.list()).models}
        except (ResponseError, httpx.HTTPError, ConnectionError) as error:
            raise CheckFailed(f"The model is registered and the server does not answer: {error}") from error
        if name.key not in listed:
            raise CheckFailed(f"The model is in {self._store.models_dir}, and the server there does not list it.")
        return manifest.digest

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
        """Return the options that the first of `names` in the store serves with; none when none is there."""
        return await asyncio.to_thread(self._stored_parameters, names)

    def _stored_parameters(self, names: Sequence[str]) -> dict[str, object]:
        for name in names:
            with suppress(NotFound):
                manifest = self._store.read_manifest(ModelName.parse(name))
                layers = manifest.of_kind("params")
                parameters: dict[str, object] = json.loads(self._store.read_blob(layers[-1])) if layers else {}
                return parameters
        return {}

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
        """Whether the store has a model `name`, whoever made it."""
        return await asyncio.to_thread(self._store.has_model, name)


def _candidate(job_id: str) -> ModelName:
    return ModelName.parse(f"{CANDIDATES}/{job_id}")
