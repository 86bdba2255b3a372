"""Child processes of a job: started in their own group, watched for memory and time, and gone when the worker goes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

LineHandler = Callable[[str], Awaitable[None]]

_WATCH_SECONDS = 0.5
_TAIL_LINES = 15
_LONGEST_LINE = 2**20
_KILLED = 128 + signal.SIGKILL


class ChildFailed(Exception):
    """A child process did not end well. `code` is `out_of_memory`, `storage_full`, `time_limit` or `child_failed`."""

    def __init__(self, message: str, code: str, tail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.tail = tail


@dataclass(frozen=True)
class Limits:
    """What a child may take: resident memory of its process group in bytes (None: no limit), and time in seconds."""

    memory_bytes: int | None
    seconds: float


async def run_child(
    command: list[str],
    *,
    title: str,
    log: Path,
    limits: Limits,
    on_line: LineHandler | None = None,
    nice: int = 5,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run `command`; each line of its standard output goes to `on_line`, its standard error to the file `log`.

    `environment` is added to what every child has.

    Raises `ChildFailed` with the last lines of the log. When this coroutine is cancelled, the child's group is killed.
    """
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tunesmith_finetune.child", str(nice), *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**_environment(os.environ), **(environment or {})},
            start_new_session=True,
            limit=_LONGEST_LINE,
        )  # fmt: skip
    async with _never_outlived(process), _watched(process.pid, limits) as watch:
        try:
            async with asyncio.timeout(limits.seconds):
                await _pass_lines(process, on_line)
                status = await process.wait()
        except TimeoutError:
            raise ChildFailed(
                f"{title} took longer than the limit of {limits.seconds / 3600:g} h", "time_limit"
            ) from None
    if status == 0:
        return
    tail = _tail(log)
    if watch.exceeded or status == _KILLED or "MemoryError" in tail or "can't allocate memory" in tail:
        raise ChildFailed(_memory_message(title, limits, watch), "out_of_memory", tail)
    if full := [line for line in tail.splitlines() if "No space left on device" in line]:
        raise ChildFailed(f"{title} found the disk full: {full[-1]}.", "storage_full", tail)
    raise ChildFailed(
        f"{title} failed (exit status {status}): {tail.splitlines()[-1] if tail else 'no output'}", "child_failed", tail
    )


@dataclass
class _Watch:
    exceeded: bool = False
    peak_bytes: int = 0


@asynccontextmanager
async def _watched(leader: int, limits: Limits) -> AsyncIterator[_Watch]:
    watch = _Watch()

    async def look() -> None:
        while True:
            watch.peak_bytes = max(watch.peak_bytes, used := _resident_bytes(leader))
            if limits.memory_bytes is not None and used > limits.memory_bytes:
                watch.exceeded = True
                _kill_group(leader)
            await asyncio.sleep(_WATCH_SECONDS)

    task = asyncio.create_task(look())
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def _never_outlived(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        _kill_group(process.pid)
        await process.wait()


async def _pass_lines(process: asyncio.subprocess.Process, on_line: LineHandler | None) -> None:
    assert process.stdout is not None  # noqa: S101 - it was asked for as a pipe
    async for raw in process.stdout:
        if on_line is not None:
            await on_line(raw.decode(errors="replace").rstrip("\n"))


def _resident_bytes(leader: int) -> int:
    total = 0
    with suppress(psutil.Error):
        top = psutil.Process(leader)
        for process in (top, *top.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _memory_message(title: str, limits: Limits, watch: _Watch) -> str:
    limit = f" (limit {limits.memory_bytes / 2**20:.0f} MiB)" if limits.memory_bytes is not None else ""
    return (
        f"{title} ran out of memory at {watch.peak_bytes / 2**20:.0f} MiB{limit}. "
        "Choose a smaller batch_size or max_length, turn gradient_checkpointing on, or raise "
        "TUNESMITH_TRAINING_MEMORY_MB."
    )


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:])


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Children never ask a model hub, and their idle threads sleep, so that a chat meanwhile gets the cores."""
    ours = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
    }
    return {**inherited, **ours}
