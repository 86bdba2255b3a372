"""A model process in a llama-server: its start, its ends, and those of its parents.

The server is a stand-in, which says and does what a real one would; `test_real_llama_server.py` has a real one.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from tunesmith_engine.llama_server import find
from tunesmith_engine.process import ModelProcess, RunnerFailed, own_server
from tunesmith_engine.specification import Specification
from tunesmith_shared.testing import Platform, platform_at, wait_for_models, wait_until

from .conftest import CHAT, WAIT_SECONDS, Engine, copy_store

Prepare = Callable[[str], ModelProcess]


@pytest.fixture
async def prepare(stand_in: Path, tmp_path: Path) -> AsyncIterator[Prepare]:
    """Make processes that are not started yet, of models with these contents; all are ended afterwards."""
    made: list[ModelProcess] = []

    def one(content: str) -> ModelProcess:
        model = tmp_path / f"{len(made)}.gguf"
        model.write_text(content)
        made.append(ModelProcess(Specification(str(model), (), False, 64, 1, 1, 32, True), own_server(stand_in)))
        return made[-1]

    yield one
    for process in made:
        await process.stop()


def server_of(process: ModelProcess) -> psutil.Process:
    """The llama-server behind a model process."""
    [server] = psutil.Process(process.pid).children()
    return server


async def gone(process: psutil.Process) -> None:
    """Return when a process has ended."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, [process], timeout=WAIT_SECONDS)
    assert alive == []


async def test_it_is_ready_when_the_server_says_that_the_model_is_loaded(prepare: Prepare) -> None:
    process = prepare("slow")
    model = Path(process.specification.model_path)
    starting = asyncio.create_task(process.start(WAIT_SECONDS))
    asked = model.with_suffix(".asked")
    await asyncio.to_thread(wait_until, lambda: asked.exists() and len(asked.read_text()) > 1, WAIT_SECONDS, "503, 503")
    assert not starting.done()
    model.with_suffix(".go").touch()
    await starting
    assert process.alive
    assert await process.call("/v1/completions", {"prompt": "Hi"}) == {"said": "Hi"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("damaged", "unable to load model: error loading model: tensor 'x' is not within the file bounds"),
        ("foreign", "was ended by SIGILL; it is a build for another processor"),
    ],
)
async def test_why_a_model_cannot_be_loaded_is_the_reason(prepare: Prepare, content: str, reason: str) -> None:
    with pytest.raises(RunnerFailed) as caught:
        await prepare(content).start(WAIT_SECONDS)
    assert str(caught.value).endswith(reason)


async def test_a_binary_that_went_away_is_the_reason(prepare: Prepare, tmp_path: Path) -> None:
    process = ModelProcess(prepare("model").specification, own_server(tmp_path / "nosuch"))
    with pytest.raises(RunnerFailed, match=r"nosuch \(No such file or directory\); see TUNESMITH_ENGINE_LLAMA_SERVER"):
        await process.start(WAIT_SECONDS)


async def test_a_start_that_takes_too_long_leaves_no_server(prepare: Prepare) -> None:
    process = prepare("slow")
    with pytest.raises(RunnerFailed, match=r"did not load within 0\.5 s"):
        await process.start(0.5)
    assert not process.alive


async def test_a_server_that_crashes_ends_its_own_answers_alone(prepare: Prepare) -> None:
    crashing, other = prepare("one"), prepare("two")
    await crashing.start(WAIT_SECONDS)
    await other.start(WAIT_SECONDS)
    runner = psutil.Process(crashing.pid)
    with pytest.raises(RunnerFailed, match="the next request starts it again"):
        await crashing.call("/v1/completions", {"prompt": "crash"})
    assert not crashing.alive
    await gone(runner)
    assert await other.call("/v1/completions", {"prompt": "Hi"}) == {"said": "Hi"}


async def test_the_server_ends_with_its_process_killed_or_stopped(prepare: Prepare) -> None:
    killed, stopped = prepare("one"), prepare("two")
    await killed.start(WAIT_SECONDS)
    await stopped.start(WAIT_SECONDS)
    servers = [server_of(killed), server_of(stopped)]
    psutil.Process(killed.pid).kill()
    await stopped.stop()
    for server in servers:
        await gone(server)


async def test_what_the_server_prints_is_in_the_log(prepare: Prepare, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tunesmith.engine.process")
    process = prepare("model")
    await process.start(WAIT_SECONDS)
    await asyncio.to_thread(
        wait_until, lambda: "the stand-in listens" in caplog.text, WAIT_SECONDS, "a line in the log"
    )


async def test_the_key_of_a_gateways_backend_is_not_the_servers(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_API_KEY", "of a server elsewhere")
    process = prepare("model")
    await process.start(WAIT_SECONDS)
    assert await process.call("/v1/completions", {"prompt": "Hi"}) == {"said": "Hi"}


def test_servers_die_with_a_killed_engine_which_never_loads_the_library(
    engine_platform: Platform, stand_in: Path, tmp_path: Path
) -> None:
    with platform_at(tmp_path, TUNESMITH_ENGINE_LLAMA_SERVER=str(find(str(stand_in)))) as platform:
        copy_store(engine_platform, tmp_path)
        platform.start("engine")
        service = platform.services["engine"]
        with contextlib.closing(Engine(service, tmp_path / "models")) as engine:
            wait_for_models(engine.url)
            runner = engine.process_of(CHAT)
        [server] = runner.children()
        assert service.process is not None
        for process in (psutil.Process(service.process.pid), runner):
            assert not [mapped.path for mapped in process.memory_maps() if "xllamacpp" in mapped.path]
        service.kill()
        _, alive = psutil.wait_procs([runner, server], timeout=WAIT_SECONDS)
    assert alive == []
    assert f"models run in {stand_in} (version: 1 (stand-in))" in service.log.read_text()
