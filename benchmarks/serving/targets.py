"""What is measured: this platform, llama.cpp's own server in two builds, and llama-cpp-python's server."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from benchmarks.servers import LIMITS, process
from benchmarks.serving import builds

from tunesmith_engine.specification import Specification
from tunesmith_shared.testing import free_port, platform_at, wait_for_models

SLOTS = 8
CONTEXT = 1024
BATCH = 128


@dataclass(frozen=True)
class Target:
    """A server that speaks OpenAI's API."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def platform(folder: Path) -> Iterator[list[Target]]:
    """Gateway and engine as they run, with authentication, limits and metrics on; then the engine by itself."""
    settings = {"TUNESMITH_ENGINE_PARALLEL": str(SLOTS), "TUNESMITH_ENGINE_CONTEXT": str(CONTEXT)}
    with platform_at(folder, **LIMITS, **settings) as running:
        running.start("engine", "gateway")
        engine = Target("engine", running.services["engine"].url)
        wait_for_models(engine.url)
        yield [Target("platform", running.url, {"authorization": f"Bearer {running.key}"}), engine]


def model_file(folder: Path) -> Path:
    """The GGUF that the platform in `folder` serves."""
    blobs = sorted((folder / "models" / "blobs").iterdir(), key=lambda blob: blob.stat().st_size)
    return blobs[-1]


@contextmanager
def others(model: Path, folder: Path, threads: int, names: list[str]) -> Iterator[list[Target]]:
    """The servers that the platform is compared with, those of them that are named."""
    with ExitStack() as stack:
        targets = []
        for name in names:
            port = free_port()
            words = _command(name, model, threads, port)
            stack.enter_context(process(words, {}, port, folder / f"{name}.log", _loaded))
            targets.append(Target(name, f"http://127.0.0.1:{port}"))
        yield targets


def _command(name: str, model: Path, threads: int, port: int) -> list[str]:
    """How a server is started: with the same slots, context a slot and threads; everything else is its own default."""
    if name == "llama-server":
        server, context = str(builds.llama_cpp() / name), str(SLOTS * CONTEXT)
        words = [server, "--model", str(model), "--parallel", str(SLOTS), "--ctx-size", context]
        return [*words, "--threads", str(threads), "--host", "127.0.0.1", "--port", str(port)]
    if name == "library":
        specification = Specification(str(model), (), False, CONTEXT, SLOTS, threads, BATCH, True)
        return [sys.executable, "-m", "benchmarks.serving.library", specification.encode(), str(port)]
    words = [str(builds.llama_cpp_python()), "-m", "llama_cpp.server", "--model", str(model)]
    words += ["--n_ctx", str(CONTEXT), "--n_threads", str(threads), "--interrupt_requests", "false"]
    return [*words, "--host", "127.0.0.1", "--port", str(port)]


def _loaded(answer: httpx.Response) -> bool:
    return answer.status_code == httpx.codes.OK
