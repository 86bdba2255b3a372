"""Which llama-server models run in, what it is told, and what is said of one that will not do."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tunesmith_engine.llama_server import Servers, choose, command, find, version
from tunesmith_engine.settings import EngineSettings
from tunesmith_engine.specification import ALIAS, Specification
from tunesmith_shared.llama_cpp import BFLOAT16_SERVER, SERVER, build_folder, native
from tunesmith_shared.testing import Platform

CHAT = Specification("/m.gguf", (), False, 512, 4, 3, 128, True)
INSTEAD = "name another build's, or say library for the one in the wheel"


def script(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_the_options_say_what_the_library_is_set_to() -> None:
    words = command("/bin/llama-server", "/s/model.sock", CHAT)
    assert words[:3] == ["/bin/llama-server", "--model", "/m.gguf"]
    expected = {
        "--host": "/s/model.sock", "--alias": ALIAS, "--parallel": "4", "--ctx-size": "2048", "--threads": "3",
        "--threads-batch": "3", "--batch-size": "128", "--ubatch-size": "128", "--threads-http": "16",
        "--cache-ram": "0", "--fit": "off", "--verbosity": "1",
    }  # fmt: skip
    assert {option: value(words, option) for option in expected} == expected
    assert words[-2:] == ["--no-webui", "--context-shift"]


def test_a_model_for_vectors_reads_a_text_in_one_batch_and_shifts_nothing() -> None:
    words = command("x", "s", replace(CHAT, embedding=True, num_ctx=4096))
    assert value(words, "--batch-size") == value(words, "--ubatch-size") == "4096"
    assert {"--embedding", "--no-context-shift"} <= set(words)


def test_adapters_are_loaded_and_wait_for_a_request_to_name_them() -> None:
    words = command("x", "s", replace(CHAT, adapter_paths=("/a.gguf", '/b, "c".gguf'), gpu_layers=7))
    assert words[-5:] == ["--lora", "/a.gguf", "--lora", '"/b, ""c"".gguf"', "--lora-init-without-apply"]
    assert value(words, "--gpu-layers") == "7"


def test_a_binary_is_found_by_its_path_and_by_its_name(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(str(stand_in)) == stand_in
    monkeypatch.setenv("PATH", str(stand_in.parent), prepend=":")
    assert find(stand_in.name) == stand_in
    assert version(stand_in) == "version: 1 (stand-in)"


def test_models_run_in_the_newest_build_for_this_processor(
    tmp_path: Path, stand_in: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = {**native(), "GGML_OTHER": "ON"}
    newest = _put(stand_in, build_folder(tmp_path, "2", native()), seconds=20)
    _put(stand_in, build_folder(tmp_path, "10", native()), seconds=10)
    _put(stand_in, build_folder(tmp_path, "2", elsewhere), seconds=30)
    assert choose("", tmp_path) == Servers(newest)
    assert choose(str(stand_in), tmp_path) == Servers(stand_in)
    assert choose("library", tmp_path) == Servers()
    assert choose("", tmp_path / "nothing") == Servers()
    newest.write_text("#!/bin/sh\nexit 4\n")
    assert choose("", tmp_path) == Servers()
    assert f"no model runs in the llama-server that was built: {newest} --help fails" in caplog.text


def test_models_in_bfloat16_run_in_the_server_that_was_built_for_them(tmp_path: Path, stand_in: Path) -> None:
    half, build = replace(CHAT, bfloat16=True), build_folder(tmp_path, "2", native())
    usual = _put(stand_in, build, seconds=20)
    assert choose("", tmp_path).of(half) == usual
    own = _put(stand_in, build, seconds=20, name=BFLOAT16_SERVER)
    servers = choose("", tmp_path)
    assert (servers.of(CHAT), servers.of(half)) == (usual, own)
    assert choose(str(stand_in), tmp_path).of(half) == stand_in
    assert choose("library", tmp_path).of(half) is None


def _put(binary: Path, build: Path, seconds: int, name: str = SERVER) -> Path:
    """A copy of a binary as a server of a build."""
    (build / "bin").mkdir(parents=True, exist_ok=True)
    copy = Path(shutil.copy(binary, build / "bin" / name))
    os.utime(copy, (seconds, seconds))
    return copy


def test_the_setting_keeps_what_it_says(stand_in: Path) -> None:
    for value in ("", "library", str(stand_in)):
        assert EngineSettings(engine_llama_server=value).engine_llama_server == value


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("echo usage: --model --host", r"does not know --alias, --parallel, --ctx-size; "),
        ("echo 'libcuda.so.1: cannot open shared object file' >&2; exit 127", r"--help fails \(libcuda.so.1: cannot"),
        ("exit 4", r"--help fails \(status 4\)"),
    ],
)
def test_a_binary_that_will_not_do_is_refused_with_the_reason(tmp_path: Path, text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as caught:
        find(str(script(tmp_path / "server", text)))
    assert str(caught.value).endswith(INSTEAD)


def test_what_cannot_be_executed_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nosuch is no file; give the path of a llama-server, or say library"):
        find(str(tmp_path / "nosuch"))
    with pytest.raises(ValueError, match="is no file"):
        find(str(tmp_path))
    plain = tmp_path / "plain"
    plain.write_bytes(b"\x7fELF of something else")
    with pytest.raises(ValueError, match=r"plain is not executable; chmod \+x it"):
        find(str(plain))
    plain.chmod(0o755)
    with pytest.raises(ValueError, match=r"does not run here \(Exec format error\)"):
        find(str(plain))


def test_an_engine_with_a_wrong_binary_says_so_and_does_not_start(engine_platform: Platform, tmp_path: Path) -> None:
    wrong = script(tmp_path / "server", "echo usage: --model")
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith_engine"],
        env={**engine_platform.environment, "TUNESMITH_ENGINE_LLAMA_SERVER": str(wrong), "PYTHONPATH": _path()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"engine_llama_server: Value error, {wrong} is no llama-server, or too old or too new a one" in done.stderr


def _path() -> str:
    return ":".join(entry for entry in sys.path if entry)
