"""A finished model file gets a name: through the model store on the shared volume, then seen over Ollama's API.

Before it has its own name it is served under a candidate name, and has to load and to answer there. A model of the
same name is replaced by one rename of its manifest, so it serves until the new one does.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from ollama import AsyncClient, ResponseError

from tunesmith_shared.errors import NotFound, TunesmithError
from tunesmith_shared.names import CANDIDATES, ModelName
from tunesmith_shared.store import Manifest, ModelStore, publish_adapter, publish_gguf

LOAD_SECONDS = 300.0
ANSWER_TOKENS = 96
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

    `base_name` is the served model that the adapter's base is; `parameters` are the options to serve with, `system` the system prompt.
    """

    gguf: Path
    parameters: Mapping[str, object]
    adapter: Path | None = None
    base_name: str = ""
    system: str | None = None


class Publisher:
    """Registers model files in the store that the server at `ollama_host` serves from."""

    def __init__(self, store: ModelStore, ollama_host: str) -> None:
        self._store = store
        self._client = AsyncClient(host=ollama_host, timeout=LOAD_SECONDS)
        self._http = httpx.AsyncClient(base_url=ollama_host, timeout=LOAD_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]
        await self._http.aclose()

    @asynccontextmanager
    async def candidate(self, job_id: str, artifact: Artifact) -> AsyncIterator[str]:
        """Serve `artifact` under a candidate name, which is given, for the time of the block; unload it then."""
        name = _candidate(job_id)
        await self._wait_for_server()
        await asyncio.to_thread(self._register, name, artifact)
        try:
            yield name.display
        finally:
            with suppress(ResponseError, httpx.HTTPError, ConnectionError):
                await self._client.generate(name.display, keep_alive=0)
            await self.withdraw_candidate(job_id)

    async def ask(self, name: str, messages: Sequence[Mapping[str, str]]) -> Answer:
        """Return what the model `name` answers, its likeliest words. Raises `CheckFailed` when it does not answer."""
        try:
            answer = await self._client.chat(
                name, messages=messages, options={"temperature": 0, "num_predict": ANSWER_TOKENS}
            )
        except (ResponseError, httpx.HTTPError, ConnectionError) as error:
            raise CheckFailed(f"The finished model does not load and answer: {error}") from error
        text = (answer.message.content or "").strip()
        seconds = (answer.eval_duration or 0) / 1e9
        pace = round((answer.eval_count or 0) / seconds, 1) if seconds else 0.0
        return Answer(messages[-1]["content"], text, pace)

    async def rendered(self, name: str, messages: Sequence[Mapping[str, str]]) -> str | None:
        """Return the text that the server makes of a chat with the model `name`; None when it does not tell.

        Ollama and the engine tell it on `_debug_render_only`. Raises `CheckFailed` when the model does not load.
        """
        body = {"model": name, "messages": list(messages), "stream": False, "_debug_render_only": True}
        body["options"] = {"num_predict": 1}
        try:
            response = await self._http.post("/api/chat", json=body)
        except httpx.HTTPError as error:
            raise CheckFailed(f"The finished model does not load and answer: {error}") from error
        if response.status_code != httpx.codes.OK:
            raise CheckFailed(f"The finished model does not load and answer: {response.text}")
        told = (response.json().get("_debug_info") or {}).get("rendered_template")
        return str(told) if told else None

    async def served(self, names: Sequence[str]) -> str | None:
        """Return the first of `names` that the server lists."""
        await self._wait_for_server()
        listed = {ModelName.parse(model.model or "").key for model in (await self._client.list()).models}
        return next((name for name in names if ModelName.parse(name).key in listed), None)

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
            return publish_gguf(self._store, name, artifact.gguf, system=artifact.system, parameters=artifact.parameters)
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
