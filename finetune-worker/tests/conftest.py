"""What several tests of the worker need: datasets, the prepared base model, and llama.cpp's server beside it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tunesmith_finetune.base_models import BASE_MODELS, packaged_gguf
from tunesmith_finetune.base_store import BaseModelStore
from tunesmith_finetune.datasets.source import Source
from tunesmith_finetune.export import Exporter
from tunesmith_finetune.llama_cpp import LlamaCpp, Toolbox
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.settings import WorkerSettings
from tunesmith_finetune.testing import TOKEN, Worker, worker_for
from tunesmith_shared.testing import Platform, free_port, platform_at, wait_for_models, wait_until

BASE = BASE_MODELS["smollm2-135m-instruct"]

LLAMA_SERVER = """
import sys, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.hostnames, parameters.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
parameters.n_ctx, parameters.n_parallel, parameters.verbosity, parameters.ui = 512, 1, 1, False
server = xllamacpp.Server(parameters)
sys.stdin.read()
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[[bytes | str, str], Source]:
    """Write a dataset file and name it as an upload."""

    def write(content: bytes | str, filename: str = "rows.csv") -> Source:
        path = tmp_path / "upload"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Source(path, filename, "training_file")

    return write


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that the platform uses too: what is made there once is not made again for a test."""
    return WorkerSettings(data_dir=tmp_path_factory.mktemp("settings")).cache_dir


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[Platform]:
    """An engine and a worker as processes, with the machine's cache."""
    environment = {"TUNESMITH_CACHE_DIR": str(cache_dir), "TUNESMITH_SERVICE_TOKEN": TOKEN}
    with platform_at(tmp_path_factory.mktemp("platform"), **environment) as running:
        running.start("engine", "worker")
        wait_for_models(running.services["engine"].url, "smollm2:135m")
        yield running


@pytest.fixture(scope="module")
def worker(platform: Platform) -> Iterator[Worker]:
    """A caller of the platform's worker."""
    with worker_for(platform) as worker:
        yield worker


@pytest.fixture(scope="session")
def base_folder(cache_dir: Path) -> Path:
    """The base model's folder, prepared as a job prepares it."""
    return asyncio.run(BaseModelStore(cache_dir, Limits(None, 600)).prepare(BASE))


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, base_folder: Path) -> dict[str, str]:
    """The environment of a worker whose base model is tiny, and whose llama.cpp's tools are the real ones."""
    cache = tmp_path_factory.mktemp("tiny-cache")
    folder = BaseModelStore(cache, Limits(None, 600)).folder(BASE)
    folder.parent.mkdir()
    command = [sys.executable, str(Path(__file__).with_name("tiny_base.py")), str(base_folder), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    tools = asyncio.run(Toolbox(cache_dir, WorkerSettings().llama_cpp_requirements, Limits(None, 3600)).get())
    return {
        "TUNESMITH_CACHE_DIR": str(cache),
        "TUNESMITH_LLAMA_CPP_DIR": str(tools.folder),
        "TUNESMITH_SERVICE_TOKEN": TOKEN,
        "TUNESMITH_ENGINE_SEED": "false",
    }


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory, tiny_cache: dict[str, str]) -> Path:
    """The tiny base model in half precision, as GGUF."""
    folder = tmp_path_factory.mktemp("tiny-gguf")
    (base,) = Path(tiny_cache["TUNESMITH_CACHE_DIR"], "base-models").glob("*instruct-1")
    exporter = Exporter(LlamaCpp(Path(tiny_cache["TUNESMITH_LLAMA_CPP_DIR"])), Limits(None, 600), folder / "log")
    asyncio.run(exporter.base_to_f16(base, folder / "base.gguf"))
    return folder / "base.gguf"


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's server with the very file that the base model is made from."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    log = tmp_path_factory.mktemp("llama") / "server.log"
    with log.open("wb") as output:
        command = [sys.executable, "-c", LLAMA_SERVER, str(packaged_gguf(BASE)), str(port)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=dict(os.environ))

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/health").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, 120, "llama.cpp's server answers")
        yield url
    finally:
        process.kill()
        process.communicate()
