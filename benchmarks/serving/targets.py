"""What is measured: this platform, llama.cpp's own server in two builds, and llama-cpp-python's server."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
from benchmarks.servers import LIMITS, process
from benchmarks.serving import builds

from tunesmith_engine.specification import Specification
from tunesmith_shared.store import ModelName, ModelStore, publish_gguf
from tunesmith_shared.testing import free_port, platform_at, wait_for_models

SLOTS = 8
CONTEXT = 1024
BATCH = 128
PLATFORM = "platform"
_SEEDED = "smollm2:135m"
_GIVEN = "measured:latest"


@dataclass(frozen=True)
class Target:
    """A server that speaks OpenAI's API, and the name of the model there."""

    name: str
    url: str
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def platform(folder: Path, gguf: Path | None, llama_server: str) -> Iterator[list[Target]]:
    """Gateway and engine as they run, with authentication, limits and metrics on; then the engine by itself.

    They serve `gguf`, or the model that every platform begins with, in what the engine's setting `llama_server` says.
    """
    settings = {
        "TUNESMITH_ENGINE_PARALLEL": str(SLOTS),
        "TUNESMITH_ENGINE_CONTEXT": str(CONTEXT),
        "TUNESMITH_ENGINE_LLAMA_SERVER": llama_server,
        "TUNESMITH_ENGINE_SEED": str(gguf is None),
        "TUNESMITH_FIRST_MODEL_TYPE": "auto",
    }
    model = _GIVEN if gguf else _SEEDED
    with platform_at(folder, **LIMITS, **settings) as running:
        if gguf:
            publish_gguf(ModelStore(folder / "models"), ModelName.parse(model), gguf, system=None, parameters=None)
        running.start("engine", "gateway")
        engine = Target("engine", running.services["engine"].url, model)
        wait_for_models(engine.url, model)
        yield [Target(PLATFORM, running.url, model, {"authorization": f"Bearer {running.key}"}), engine]


def model_file(folder: Path) -> Path:
    """The GGUF that the platform in `folder` serves."""
    blobs = sorted((folder / "models" / "blobs").iterdir(), key=lambda blob: blob.stat().st_size)
    return blobs[-1]


@contextmanager
def others(names: list[str], folder: Path, model: Path, threads: int, llama_server: str) -> Iterator[list[Target]]:
    """The servers that the platform is compared with, those of them that are named."""
    commands = {
        "llama-server": partial(_bare, llama_server, model, threads),
        "library": partial(_library, model, threads),
        "llama-cpp-python": partial(_llama_cpp_python, model, threads),
    }
    with ExitStack() as stack:
        targets = []
        for name in names:
            port = free_port()
            stack.enter_context(process(commands[name](port), {}, port, folder / f"{name}.log", _loaded))
            targets.append(Target(name, f"http://127.0.0.1:{port}", _SEEDED))
        yield targets


# Each has the same slots, context a slot and threads; everything else is its own default.


def _bare(llama_server: str, model: Path, threads: int, port: int) -> list[str]:
    words = [llama_server, "--model", str(model), "--parallel", str(SLOTS), "--ctx-size", str(SLOTS * CONTEXT)]
    return [*words, "--threads", str(threads), "--host", "127.0.0.1", "--port", str(port)]


def _library(model: Path, threads: int, port: int) -> list[str]:
    specification = Specification(str(model), (), False, CONTEXT, SLOTS, threads, BATCH, True)
    return [sys.executable, "-m", "benchmarks.serving.library", specification.encode(), str(port)]


def _llama_cpp_python(model: Path, threads: int, port: int) -> list[str]:
    words = [str(builds.llama_cpp_python()), "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", str(CONTEXT)]
    words += ["--n_threads", str(threads), "--interrupt_requests", "false"]
    return [*words, "--host", "127.0.0.1", "--port", str(port)]


def _loaded(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.OK
