"""One engine for all tests, its official clients, and eyes on its model processes."""

import json
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import ollama
import openai
import psutil
import pytest
from gguf import GGUFWriter

from tunesmith_shared.testing import Platform, Service, platform_at, wait_until

CHAT = "smollm2:135m"
EMBEDDING = "all-minilm"
WAIT_SECONDS = 120.0
_RUNNERS = {"tunesmith_engine.runner", "tunesmith_engine.server_runner"}  # TUNESMITH_ENGINE_LLAMA_SERVER chooses


class Engine:
    """The running engine as tests see it."""

    def __init__(self, service: Service, models_dir: Path) -> None:
        self.service = service
        self.url = service.url
        self.models_dir = models_dir
        self.http = httpx.Client(base_url=self.url, timeout=240)
        self.ollama = ollama.Client(host=self.url, timeout=240)
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=240)

    def model_processes(self) -> list[psutil.Process]:
        """The engine's model processes that run."""
        assert self.service.process is not None
        children = psutil.Process(self.service.process.pid).children()
        return [child for child in children if _RUNNERS & set(child.cmdline())]

    def say(self, model: str, prompt: str, *, raw: bool = False, **options: object) -> str:
        """The text that a model generates."""
        return self.ollama.generate(model, prompt, raw=raw, options=options).response or ""

    def process_of(self, model: str) -> psutil.Process:
        """The process that serves a model; loads it first."""
        if self.ollama.show(model).capabilities == ["embedding"]:
            self.ollama.embed(model, "x")
        else:
            self.ollama.generate(model, "")
        path = self.show_path(model)
        return next(child for child in self.model_processes() if path in child.cmdline()[-1])

    def show_path(self, model: str) -> str:
        """The model file's path."""
        modelfile = self.ollama.show(model).modelfile
        assert modelfile is not None
        return next(line for line in modelfile.splitlines() if line.startswith("FROM "))[5:]

    def busy_slots(self, model: str) -> int:
        """How many requests llama.cpp works on for a model."""
        socket = self.process_of(model).cmdline()[-2]
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=120) as client:
            return sum(slot["is_processing"] for slot in client.get("http://model/slots").json())

    def wait_idle(self, model: str, seconds: float) -> None:
        """Return when no slot of the model is busy."""
        wait_until(lambda: self.busy_slots(model) == 0, seconds, f"{model} stops generating")

    def send(self, path: str, body: dict[str, object]) -> socket.socket:
        """Send a request on a bare connection, so that the test decides when it breaks."""
        address = urlsplit(self.url)
        assert address.hostname is not None
        connection = socket.create_connection((address.hostname, address.port or 80))
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        return connection

    def upload(self, content: bytes) -> str:
        """Store a blob; gives its digest."""
        file = self.models_dir.parent / "upload"
        file.write_bytes(content)
        try:
            return self.ollama.create_blob(file)
        finally:
            file.unlink()

    def close(self) -> None:
        """Close the clients."""
        self.http.close()
        self.openai.close()
        self.ollama._client.close()


@pytest.fixture(scope="session")
def engine(engine_platform: Platform) -> Iterator[Engine]:
    running = Engine(engine_platform.services["engine"], engine_platform.data_dir / "models")
    yield running
    running.close()


@pytest.fixture(scope="module")
def own_engine(engine_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A second engine on a copy of the seeded store, for tests that kill it; each leaves it running."""
    folder = tmp_path_factory.mktemp("own-engine")
    with platform_at(folder) as platform:
        copy_store(engine_platform, folder)
        platform.start("engine")
        running = Engine(platform.services["engine"], folder / "models")
        yield running
        running.close()


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama-server that computes nothing, as an executable."""
    path = tmp_path_factory.mktemp("llama.cpp") / "llama-server"
    path.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' '{Path(__file__).with_name('stand_in_llama_server.py')}' \"$@\"\n"
    )
    path.chmod(0o755)
    return path


def write_adapter(path: Path, architecture: str) -> Path:
    """An adapter for smollm2 that changes what it says, made for that architecture as far as it tells."""
    random = np.random.default_rng(0)
    writer = GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for layer in range(4):
        writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_a", random.normal(size=(4, 576)).astype(np.float32))
        writer.add_tensor(f"blk.{layer}.attn_q.weight.lora_b", random.normal(size=(576, 4)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def copy_store(platform: Platform, folder: Path) -> None:
    """Give the platform in `folder` the models of another, as hard links."""
    source = platform.data_dir / "models"
    shutil.copytree(source, folder / "models", copy_function=_link, ignore=shutil.ignore_patterns(".incoming"))


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
