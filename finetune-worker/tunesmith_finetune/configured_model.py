"""The model that the configuration names: fetched when it is not there, converted when it is old, and registered.

`config.yaml` as earlier projects of this kind have it:

    model_family: llama              # with model_name the served name: llama:7b
    model_name: 7b
    setup_params: {repo_id: owner/repository, filename: model.gguf}
    model_params: {ctx_size: 2048, temp: 0.7}

The worker does it in the background of its start; `python -m tunesmith_finetune.configured_model` does it once and
ends, for a container that may reach the hub. What was downloaded is kept until the model is registered, so that the
next try goes on where the last one broke off.
"""

import asyncio
import logging
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from filelock import AsyncFileLock

from tunesmith_finetune.hub_file import fetch
from tunesmith_finetune.llama_cpp import Toolbox, ToolsMissing
from tunesmith_finetune.processes import ChildFailed, Limits, run_child
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_shared import logs
from tunesmith_shared.errors import TunesmithError, Unavailable
from tunesmith_shared.names import ModelName
from tunesmith_shared.settings import load_settings
from tunesmith_shared.store import ModelStore, publish_gguf

CONVERTER = "convert_llama_ggml_to_gguf.py"
_LEGACY = (b"lmgg", b"fmgg", b"tjgg")  # GGML, GGMF and GGJT as they lie in a file
_DEFAULT_CONTEXT = 2048

_logger = logging.getLogger("tunesmith.configured_model")


class SetupFailed(TunesmithError):
    """The configured model cannot be had; the message says why and what to do."""

    default_code = "setup_failed"


@dataclass
class ConfiguredModel:
    """Gets the configured model into the store. `state` says for people how far it is."""

    settings: WorkerSettings
    toolbox: Toolbox
    store: ModelStore
    state: str = field(default="not started", init=False)

    async def ensure(self) -> bool:
        """Register the model unless it is there. Returns whether it was added; does nothing when none is configured.

        Raises `SetupFailed`.
        """
        if not self.settings.configured_model:
            return False
        name = ModelName.parse(self.settings.configured_model)
        self.settings.cache_dir.mkdir(parents=True, exist_ok=True)
        async with AsyncFileLock(self.settings.cache_dir / ".configured-model.lock"):
            if await asyncio.to_thread(self.store.has_model, name):
                self.state = "ready"
                return False
            try:
                await self._add(name)
            except (TunesmithError, ToolsMissing, ChildFailed, OSError) as error:
                reason = getattr(error, "message", None) or str(error)
                self.state = f"The model {name.display} could not be set up: {reason}"
                raise SetupFailed(self.state) from error
        self.state = "ready"
        _logger.info("added the model %s", name.display)
        return True

    async def check(self) -> None:
        """Raise with the state while the model is configured and not ready."""
        if self.settings.configured_model and self.state != "ready":
            raise Unavailable(self.state)

    async def _add(self, name: ModelName) -> None:
        setup = self.settings.setup_params
        self._say(f"looking for {setup.filename}")
        source, downloaded = self._local(setup.filename), False
        if source is None:
            source, downloaded = await self._download(setup.repo_id, setup.filename), True
        self.store.incoming_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="configured-", dir=self.store.incoming_dir) as work:
            gguf = await self._as_gguf(source, Path(work))
            self._say(f"registering {name.display}")
            parameters = self.settings.served_parameters
            await asyncio.to_thread(publish_gguf, self.store, name, gguf, system=None, parameters=parameters)
        if downloaded:
            await asyncio.to_thread(shutil.rmtree, self._downloads(setup.repo_id), ignore_errors=True)

    def _local(self, filename: str) -> Path | None:
        """Return the file when it is here: as a path, or in the models' folder, where older projects had it."""
        places = (Path(filename).expanduser(), self.settings.models_path / filename)
        return next((place for place in places if place.is_file()), None)

    def _downloads(self, repository: str) -> Path:
        return self.settings.cache_dir / "downloads" / repository.replace("/", "--")

    async def _download(self, repository: str, filename: str) -> Path:
        if not repository:
            raise SetupFailed(
                f"There is no file {filename} here, and setup_params.repo_id does not say which repository has it."
            )
        self._say(f"fetching {filename} of {repository}")
        try:
            return await asyncio.to_thread(fetch, repository, filename, self._downloads(repository))
        except Exception as error:  # of the hub's client, its HTTP library, or the disk: each says what it is
            raise SetupFailed(f"The hub does not give {filename} of {repository}: {error}") from error

    async def _as_gguf(self, source: Path, work: Path) -> Path:
        """Return a GGUF file in `work`, for the store to keep: a copy of `source`, or what it is converted to."""
        gguf = work / "model.gguf"
        with source.open("rb") as file:
            magic = file.read(4)
        if magic not in _LEGACY:  # what is neither is refused when it is registered, with the reason
            await asyncio.to_thread(shutil.copyfile, source, gguf)
            return gguf
        self._say(f"converting {source.name}, a file of the time before GGUF")
        tools = await self.toolbox.get()
        context = str(self.settings.served_parameters.get("num_ctx", _DEFAULT_CONTEXT))
        command = [sys.executable, "-m", "tunesmith_finetune.legacy_conversion", str(tools.script(CONVERTER))]
        await run_child(
            [*command, "--input", str(source), "--output", str(gguf), "--context-length", context],
            title=f"Converting {source.name}",
            log=work / "conversion.log",
            limits=Limits(None, self.settings.tool_hours * 3600),
        )
        return gguf

    def _say(self, state: str) -> None:
        self.state = state
        _logger.info("the configured model: %s", state)


def configured(settings: WorkerSettings, toolbox: Toolbox) -> ConfiguredModel:
    """Return what sets the configured model up in the platform's store."""
    return ConfiguredModel(settings, toolbox, ModelStore(settings.models_path))


async def _once(settings: WorkerSettings) -> None:
    limits = Limits(None, settings.tool_hours * 3600)
    toolbox = Toolbox(settings.cache_dir, settings.llama_cpp_requirements, limits, settings.llama_cpp_dir)
    try:
        await configured(settings, toolbox).ensure()
    finally:
        await toolbox.close()


if __name__ == "__main__":
    worker_settings = load_settings(WorkerSettings)
    logs.configure(worker_settings.log_level, worker_settings.log_format)
    try:
        asyncio.run(_once(worker_settings))
    except SetupFailed as error:
        sys.exit(error.message)
