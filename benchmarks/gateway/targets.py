"""What is measured: the mock model server reached directly, through a bare pass-through, this gateway and LiteLLM."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from benchmarks.gateway import litellm
from benchmarks.gateway.upstream import MODEL

from tunesmith_shared.testing import free_port, platform_at

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120

# Far above what is reached, so that every request is counted against each and none is refused.
LIMITS = {
    "TUNESMITH_REQUESTS_PER_MINUTE": "100000000",
    "TUNESMITH_TOKENS_PER_MINUTE": "1000000000000",
    "TUNESMITH_CONCURRENCY": "1000",
}


@dataclass(frozen=True)
class Target:
    """A way to the mock: where it listens, the key that it asks for, its process."""

    name: str
    port: int
    key: str
    pid: int


@contextmanager
def process(words: list[str], environment: Mapping[str, str], port: int, log: Path) -> Iterator[int]:
    """Run a server until the block ends; give its process id as soon as it answers."""
    with log.open("wb") as output:
        child = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=5)
    except httpx.TransportError:
        return False
    return True


@contextmanager
def running(folder: Path, names: list[str]) -> Iterator[list[Target]]:
    """Run the mock and those of the targets bare, gateway and litellm that `names` has."""
    python, targets = [sys.executable, "-m"], []
    with ExitStack() as stack:
        port = free_port()
        words = [*python, "benchmarks.gateway.upstream", str(port)]
        pid = stack.enter_context(process(words, {}, port, folder / "upstream.log"))
        upstream = f"http://127.0.0.1:{port}"
        targets.append(Target("direct", port, "none", pid))
        if "bare" in names:
            port = free_port()
            words = [*python, "uvicorn", "benchmarks.gateway.passthrough:app", "--port", str(port), "--no-access-log"]
            pid = stack.enter_context(process(words, {"TARGET": upstream}, port, folder / "bare.log"))
            targets.append(Target("bare", port, "none", pid))
        if "gateway" in names:
            environment = {**LIMITS, "TUNESMITH_OLLAMA_HOST": upstream, "TUNESMITH_DEFAULT_MODEL": MODEL}
            platform = stack.enter_context(platform_at(folder, **environment))
            platform.start("gateway")
            gateway = platform.services["gateway"].process
            assert gateway is not None
            targets.append(Target("gateway", int(platform.environment["TUNESMITH_PORT"]), platform.key, gateway.pid))
        if "litellm" in names:
            port = free_port()
            words, variables = litellm.command(folder, upstream, port)
            pid = stack.enter_context(process(words, variables, port, folder / "litellm.log"))
            targets.append(Target("litellm", port, litellm.KEY, pid))
        yield targets
