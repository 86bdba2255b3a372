"""The engine's side of a model process: start, wait until it is loaded, talk to it, end it."""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import orjson

from tunesmith_engine.specification import READY, Specification
from tunesmith_shared.errors import BadRequest, TunesmithError

_logger = logging.getLogger("tunesmith.engine.process")

_KEPT_LOG_LINES = 20
_TOO_LARGE = re.compile(r"input \((\d+) tokens\) is too large to process")  # of embeddings, which are read at once
_EXIT_SECONDS = 2.0
_LONGEST_LINE_BYTES = 1 << 20  # one event of a stream; a tool call's fragment is the longest
# A token is some thousand short waits of OpenMP's threads for each other. Threads that sleep at each halve the speed on
# idle cores; threads that spin for milliseconds, which is the default, take the core from the one that they wait for
# when something else runs. These spin for microseconds. The allocator setting returns freed memory to the system.
_CHILD_ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", "MALLOC_ARENA_MAX": "2"}
_TELLING = ("error loading", "failed to", "unable to", "couldn't", "invalid argument", "error while handling")

LIBRARY = ("tunesmith_engine.runner",)
"""The child that runs a model in the library of the wheel."""


def own_server(binary: Path) -> tuple[str, ...]:
    """The child that runs a model in a llama-server."""
    return ("tunesmith_engine.server_runner", str(binary))


class RunnerFailed(TunesmithError):
    """A model process did not load its model, or died while it answered. The next request starts another."""

    status = 500
    type = "api_error"


class ContextExceeded(BadRequest):
    """The prompt is longer than the context; the message has both numbers."""

    default_code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, num_ctx: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens and the context holds {num_ctx}; "
            "shorten the prompt or raise num_ctx",
        )
        self.prompt_tokens = prompt_tokens
        self.num_ctx = num_ctx


class ModelProcess:
    """A child that serves one model. ``request`` raises RunnerFailed once it is dead."""

    def __init__(self, specification: Specification, runner: Sequence[str] = LIBRARY) -> None:
        """`runner` is the module that is the child, with its own first words: `LIBRARY`, or what `own_server` gives."""
        self.specification = specification
        self._runner = runner
        self._directory = Path(tempfile.mkdtemp(prefix="tunesmith-"))
        self._socket = self._directory / "model.sock"  # llama.cpp knows Unix sockets by this ending
        self._process: asyncio.subprocess.Process | None = None
        self._log: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._log_task: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._broken = False

    @property
    def alive(self) -> bool:
        """Whether the child runs; not any more from the moment a connection to it broke off."""
        return self._process is not None and self._process.returncode is None and not self._broken

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return self._process.pid if self._process else None

    async def start(self, timeout_seconds: float) -> None:
        """Start the child and wait until its model is loaded. Raises RunnerFailed with llama.cpp's reason."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *self._runner, str(self._socket), self.specification.encode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **_CHILD_ENVIRONMENT},
        )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self._log_task = asyncio.create_task(self._read_log())
        try:
            async with asyncio.timeout(timeout_seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            await self.stop()
            raise RunnerFailed(f"the model did not load within {timeout_seconds:g} s") from None
        except BaseException:
            self._process.kill()  # at once, since a second cancellation may interrupt the orderly end
            await self.stop()
            raise
        if line != READY:
            await self._process.wait()
            await self._log_task
            await self.stop()
            raise RunnerFailed(f"unable to load model: {self._reason()}")
        self._session = aiohttp.ClientSession(
            # llama.cpp's server promises to keep a connection and closes it after each stream; one that was taken again
            # before that is noticed would fail. Another on a Unix socket costs a tenth of a millisecond.
            connector=aiohttp.UnixConnector(str(self._socket), limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            json_serialize=lambda value: orjson.dumps(value).decode(),
            read_bufsize=_LONGEST_LINE_BYTES,
        )

    async def stop(self) -> None:
        """End the child, by force when it does not go by itself, and remove its socket."""
        if self._session is not None:
            await self._session.close()
        if self._process is not None and self._process.returncode is None:
            assert self._process.stdin is not None  # noqa: S101 - it is a pipe
            self._process.stdin.close()
            try:
                async with asyncio.timeout(_EXIT_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        if self._log_task is not None:
            await self._log_task
        shutil.rmtree(self._directory, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def request(self, path: str, body: object) -> AsyncIterator[aiohttp.ClientResponse]:
        """POST to the child; leaving the block early closes the connection, which stops the generation.

        Raises ContextExceeded, BadRequest for what llama.cpp refuses, RunnerFailed when the child is dead.
        """
        if self._session is None or not self.alive:
            raise RunnerFailed("the model process is not running; the next request starts it again")
        try:
            async with self._session.post(f"http://model{path}", json=body) as response:
                if response.status != 200:
                    raise _refusal(response.status, await response.read(), self.specification.num_ctx)
                try:
                    yield response
                finally:
                    if not response.content.at_eof():
                        response.close()
        except aiohttp.ClientError as error:
            self._broken = True  # its end is noticed later than the next request can come
            raise RunnerFailed("the model process ended while it answered; the next request starts it again") from error

    async def call(self, path: str, body: object) -> dict[str, object]:
        """POST to the child and read the whole JSON answer."""
        async with self.request(path, body) as response:
            answer: dict[str, object] = orjson.loads(await response.read())
            return answer

    async def _read_log(self) -> None:
        assert self._process is not None  # noqa: S101 - called after the start
        assert self._process.stderr is not None  # noqa: S101 - it is a pipe
        async for line in self._process.stderr:
            text = line.decode(errors="replace").rstrip()
            self._log.append(text)
            _logger.debug("model %s: %s", self.pid, text)

    def _reason(self) -> str:
        """The most telling line of the child's log."""
        for line in self._log:
            if any(words in line for words in _TELLING):
                return line.partition(": ")[2] or line
        return self._log[-1] if self._log else "the model process gave no reason"


def _refusal(status: int, content: bytes, num_ctx: int) -> TunesmithError:
    """The typed error for an error answer of llama.cpp's server."""
    try:
        error = orjson.loads(content)["error"]
        message, kind = str(error["message"]), str(error.get("type"))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return RunnerFailed(f"the model process answered with status {status}")
    if kind == "exceed_context_size_error":
        numbers = [int(number) for number in re.findall(r"\d+", message)]
        return ContextExceeded(error.get("n_prompt_tokens", numbers[0]), error.get("n_ctx", numbers[-1]))
    if (too_large := _TOO_LARGE.match(message)) and int(too_large[1]) > num_ctx:
        return ContextExceeded(int(too_large[1]), num_ctx)
    if 400 <= status < 500:
        return BadRequest(message)
    return RunnerFailed(message)
