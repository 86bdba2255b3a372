"""A real Chroma server as a process, for tests of the way that Compose takes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tunesmith_shared.testing import free_port, wait_until

_SECONDS = 60


class ChromaServer:
    """`chroma run` on `folder`; it keeps its port over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Return when it answers."""
        chroma = Path(sys.executable).parent / "chroma"
        with (self._folder / "chroma.log").open("ab") as log:
            self._process = subprocess.Popen(
                [chroma, "run", "--host", "127.0.0.1", "--port", str(self._port), "--path", self._folder / "served"],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, _SECONDS, f"Chroma answers; its log is {self._folder / 'chroma.log'}")

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/api/v2/heartbeat", timeout=5).is_success
        except httpx.TransportError:
            return False


@contextmanager
def chroma_server(folder: Path) -> Iterator[ChromaServer]:
    """A running server that is gone afterwards."""
    server = ChromaServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
