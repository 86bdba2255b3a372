"""Where llama.cpp's tools come from, and what is said when they cannot be made."""

import io
import tarfile
from pathlib import Path

import pytest

from tunesmith_finetune.llama_cpp import (
    CONVERTERS,
    TOOLS,
    LlamaCpp,
    Toolbox,
    ToolsMissing,
    pinned_version,
    unpack_llama_cpp,
)
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.settings import REPOSITORY
from tunesmith_shared.llama_cpp import BFLOAT16_SERVER, SERVER, build_folder

PIN = REPOSITORY / "requirements" / "llama-cpp.txt"


def _archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_the_pin_names_a_version_and_a_hash() -> None:
    assert pinned_version(PIN)[0].isdigit()
    assert "--hash=sha256:" in PIN.read_text()


def test_only_llama_cpp_is_unpacked(tmp_path: Path) -> None:
    files = {"pkg-1/vendor/llama.cpp/a/b.txt": b"in", "pkg-1/setup.py": b"out"}
    unpack_llama_cpp(_archive(tmp_path / "a.tar.gz", files), tmp_path / "source")
    assert [path.name for path in (tmp_path / "source").rglob("*") if path.is_file()] == ["b.txt"]


def test_a_path_that_leads_out_is_refused(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.tar.gz", {"pkg-1/vendor/llama.cpp/../../../evil": b"x"})
    with pytest.raises(ToolsMissing, match="evil"):
        unpack_llama_cpp(archive, tmp_path / "deep" / "source")
    assert not list(tmp_path.rglob("evil"))


async def test_a_missing_compiler_is_named_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    toolbox = Toolbox(tmp_path / "cache", PIN, Limits(None, 60))
    with pytest.raises(ToolsMissing, match=r"cmake.*apt install") as missing:
        await toolbox.get()
    assert "C++ compiler" in missing.value.message


async def test_a_failed_download_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    pin = tmp_path / "pin.txt"
    pin.write_text("llama-cpp-python==0 --hash=sha256:00\n--no-index\n")
    toolbox = Toolbox(tmp_path / "cache", pin, Limits(None, 60))
    for _ in range(2):
        with pytest.raises(ToolsMissing, match="could not be made"):
            await toolbox.get()
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


async def test_a_ready_folder_is_used_as_it_is(tmp_path: Path) -> None:
    ready = LlamaCpp(tmp_path / "ready")
    toolbox = Toolbox(tmp_path / "cache", PIN, Limits(None, 60), ready.folder)
    with pytest.raises(ToolsMissing, match="TUNESMITH_LLAMA_CPP_DIR"):
        await toolbox.get()
    for path in (*map(ready.tool, TOOLS), *map(ready.script, CONVERTERS)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert await toolbox.get() == ready


async def test_a_build_from_before_the_second_server_is_made_anew_where_the_processor_has_use_for_it(
    tmp_path: Path,
) -> None:
    here, elsewhere = {"GGML_NATIVE": "OFF", "GGML_AVX512_BF16": "ON"}, {"GGML_NATIVE": "OFF"}
    for processor, ready in ((here, False), (elsewhere, True)):
        build = LlamaCpp(build_folder(tmp_path, pinned_version(PIN), processor))
        for path in (*map(build.tool, (*TOOLS, SERVER)), *map(build.script, CONVERTERS)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        toolbox = Toolbox(tmp_path, PIN, Limits(None, 60), processor=processor)
        assert toolbox.ready == ready
        build.tool(BFLOAT16_SERVER).touch()
        assert toolbox.ready
