"""Where llama-quantize is looked for, and what is left when it fails or is not waited for."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from tunesmith_engine.quantise import Quantising, QuantisingFailed, quantised, quantiser
from tunesmith_engine.settings import EngineSettings
from tunesmith_shared.errors import Unsupported
from tunesmith_shared.llama_cpp import QUANTIZE, build_folder, native
from tunesmith_shared.store import ModelStore
from tunesmith_shared.testing import wait_until


def program(folder: Path, text: str) -> Path:
    """An executable shell script in place of llama-quantize."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / QUANTIZE
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.gguf"
    path.write_bytes(b"weights")
    return path


def test_the_program_beside_the_server_comes_before_the_one_in_the_cache(tmp_path: Path, stand_in: Path) -> None:
    settings = EngineSettings(data_dir=tmp_path, cache_dir=tmp_path / "cache", engine_llama_server=str(stand_in))
    with pytest.raises(Unsupported, match="not there yet"):
        quantiser(settings)
    cached = program(build_folder(settings.cache_dir, "1", native()) / "bin", "exit 0")
    assert quantiser(settings) == cached
    beside = program(stand_in.parent, "exit 0")
    try:
        assert quantiser(settings) == beside
        settings.engine_llama_server = "library"
        assert quantiser(settings) == cached
    finally:
        beside.unlink()


async def test_what_is_written_becomes_a_blob(tmp_path: Path, source: Path) -> None:
    store = ModelStore(tmp_path / "models")
    copies = program(tmp_path, 'test "$3" = Q4_K_M && cp "$1" "$2"')
    digest = await quantised(store, source, Quantising("Q4_K_M", copies))
    assert store.blob_path(digest).read_bytes() == b"weights"
    assert list(store.incoming_dir.iterdir()) == []


async def test_a_failure_says_why_and_leaves_nothing(tmp_path: Path, source: Path) -> None:
    store = ModelStore(tmp_path / "models")
    fails = program(tmp_path, 'echo half >"$2"; echo loading; echo "no such tensor" >&2; exit 3')
    with pytest.raises(QuantisingFailed, match="could not be quantised: no such tensor"):
        await quantised(store, source, Quantising("Q4_K_M", fails))
    assert list(store.incoming_dir.iterdir()) == []


async def test_a_caller_that_goes_away_ends_the_program(tmp_path: Path, source: Path) -> None:
    store = ModelStore(tmp_path / "models")
    waits = program(tmp_path, f'cd "{tmp_path}"; echo $$ >pid.new; mv pid.new pid; exec sleep 600')
    work = asyncio.create_task(quantised(store, source, Quantising("Q4_K_M", waits)))
    await asyncio.to_thread(wait_until, (tmp_path / "pid").exists, 30, "the program runs")
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
    assert list(store.incoming_dir.iterdir()) == []
