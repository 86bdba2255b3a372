"""Servers that benchmarks compare, as processes."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 120

# Far above what is reached, so that every request is counted against each and none is refused.
LIMITS = {
    "TUNESMITH_REQUESTS_PER_MINUTE": "100000000",
    "TUNESMITH_TOKENS_PER_MINUTE": "1000000000000",
    "TUNESMITH_CONCURRENCY": "1000",
}


@contextmanager
def process(
    words: list[str],
    environment: Mapping[str, str],
    port: int,
    log: Path,
    ready: Callable[[httpx.Response], bool] = lambda _: True,
) -> Iterator[int]:
    """Run a server until the block ends; give its process id as soon as `ready` is content with its /v1/models.

    Raises `RuntimeError` with the end of its log when it does not get there.
    """
    with log.open("wb") as output:
        child = subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,  # some end when their parent does
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port, ready):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _answers(port: int, ready: Callable[[httpx.Response], bool]) -> bool:
    try:
        return ready(httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=5))
    except httpx.TransportError:
        return False
