"""What is measured: the mock model server reached directly, through a bare pass-through, this gateway and LiteLLM."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway import litellm
from benchmarks.gateway.upstream import MODEL
from benchmarks.servers import LIMITS, process

from tunesmith_shared.testing import free_port, platform_at


@dataclass(frozen=True)
class Target:
    """A way to the mock: where it listens, the key that it asks for, its process."""

    name: str
    port: int
    key: str
    pid: int


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
