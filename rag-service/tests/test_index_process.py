"""The process that has Chroma: one a folder, started again when it ends, and no obstacle when it hangs."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from tunesmith_rag.chroma import open_vectors
from tunesmith_rag.index import Chunk, ChunkIndex, open_index
from tunesmith_rag.index_process import IndexProcess
from tunesmith_rag.neighbours import USUAL
from tunesmith_shared.errors import Conflict, TunesmithError, Unavailable

STORE = "vs-test"
AXES = np.eye(4, dtype=np.float32)
OPEN = """
import asyncio, os, pathlib, sys
from tunesmith_rag.index import open_index
async def main():
    await open_index("", pathlib.Path(sys.argv[1]))
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


@pytest_asyncio.fixture
async def index(tmp_path: Path) -> AsyncIterator[ChunkIndex]:
    index = await open_index("", tmp_path)
    yield index
    await index.close()


def chunks(document: str, count: int) -> list[Chunk]:
    return [Chunk(document, number, number + 1, f"text {number} of {document}") for number in range(count)]


def another_process(folder: Path) -> subprocess.CompletedProcess[str]:
    """Have another process open the index in `folder` and be killed."""
    return subprocess.run([sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, check=False)


async def test_a_second_writer_is_refused_and_told_which_process_has_it(tmp_path: Path) -> None:
    index = await open_index("", tmp_path)
    with pytest.raises(Conflict, match=f"is in use by process {os.getpid()}, and only one process may write to it"):
        await open_index("", tmp_path)
    other = await asyncio.to_thread(another_process, tmp_path)
    assert other.returncode != 0
    assert "only one process may write to it" in other.stderr
    await index.close()


async def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    owner = await asyncio.to_thread(another_process, tmp_path)
    assert owner.returncode == -9
    await (await open_index("", tmp_path)).close()


def test_the_process_of_an_owner_that_was_killed_is_waited_for_while_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    with (tmp_path / "chroma.lock").open("w") as lock, monkeypatch.context() as waiting:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(killed.pid))
        lock.flush()
        waiting.setattr("tunesmith_rag.chroma.time.sleep", lambda _: lock.close())
        open_vectors("", tmp_path, os.getpid(), anew=False).close()
        assert lock.closed


async def test_a_process_that_is_killed_in_a_call_is_started_again_and_the_call_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = IndexProcess("", tmp_path, USUAL)
    index = ChunkIndex(process)
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    child = (await process.start()).process
    child.send_signal(signal.SIGSTOP)
    asked = asyncio.create_task(index.search(STORE, AXES[:1], 1))
    for _ in range(10):
        await asyncio.sleep(0)  # the question is on its way
    child.kill()
    assert [[near.index for near in row] for row in await asked] == [[0]]
    assert "ended by itself (status -9)" in caplog.text
    await index.close()


async def test_a_process_that_ends_each_time_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = IndexProcess("", tmp_path, USUAL)
    index = ChunkIndex(process)
    start = process.start

    async def killed(*, anew: bool = False) -> Any:
        running = await start(anew=anew)
        running.process.kill()
        return running

    with monkeypatch.context() as dying:
        dying.setattr(process, "start", killed)
        with pytest.raises(Unavailable, match=r"ended twice in a row \(status -9\)"):
            await index.count(STORE, "doc")
    assert await index.count(STORE, "doc") == 0
    await index.close()


async def test_a_call_that_nobody_waits_for_any_more_disturbs_no_other(index: ChunkIndex) -> None:
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    given_up = asyncio.create_task(index.search(STORE, AXES[:1], 1))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await index.count(STORE, "doc") == 4
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_an_error_of_chroma_that_nobody_foresaw_is_told_and_logged(
    index: ChunkIndex, caplog: pytest.LogCaptureFixture
) -> None:
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    with pytest.raises(TunesmithError, match=r"The vector database failed \(InvalidArgumentError: .*dimension"):
        await index.search(STORE, np.ones((1, 7), np.float32), 1)
    assert "Traceback" in caplog.text
    await index.check()


async def test_an_index_that_does_not_answer_can_be_begun_anew(tmp_path: Path) -> None:
    process = IndexProcess("", tmp_path, USUAL)
    index = ChunkIndex(process)
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    (await process.start()).process.send_signal(signal.SIGSTOP)
    asked = asyncio.create_task(index.search(STORE, AXES[:1], 1))
    await asyncio.sleep(0)
    await index.start_anew()
    assert await asked == [[]]
    await index.close()


async def test_an_index_that_is_begun_anew_is_empty_and_usable(tmp_path: Path) -> None:
    index = await open_index("", tmp_path)
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    await index.start_anew()
    assert await index.count(STORE, "doc") == 0
    await index.add(STORE, chunks("doc", 4), AXES.tolist())
    assert await index.count(STORE, "doc") == 4
    await index.close()
    assert (tmp_path / "chroma.damaged").exists()
