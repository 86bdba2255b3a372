"""The model that config.yaml names: from a path, from a hub whose connection breaks, and from before GGUF."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from gguf import GGUFWriter

from tunesmith_finetune.settings import WorkerSettings
from tunesmith_shared.names import ModelName
from tunesmith_shared.settings import load_settings
from tunesmith_shared.store import ModelStore
from tunesmith_shared.testing import platform_at, wait_until

from .legacy_ggml import write_legacy_model
from .scripted_hub import Hub, serving

NAME = ModelName.parse("llama:tiny")
CONFIG = """
models_dir: {models}
model_family: llama
model_name: tiny
setup_params: {{repo_id: "{repository}", filename: "{filename}", convert: false, migrate: false}}
model_params: {{ctx_size: 256, temp: 0.5, seed: -1, n_parts: -1}}
"""


def environment(folder: Path, filename: str, repository: str = "", **more: str) -> dict[str, str]:
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(models=folder / "models", repository=repository, filename=filename))
    ours = {
        "TUNESMITH_CONFIG": str(config),
        "TUNESMITH_DATA_DIR": str(folder / "data"),
        "TUNESMITH_CACHE_DIR": str(folder / "cache"),
        "TUNESMITH_SERVICE_TOKEN": "token",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return {**os.environ, **ours, **more}


def set_up(variables: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tunesmith_finetune.configured_model"]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def outcome(variables: dict[str, str]) -> tuple[int, str]:
    with set_up(variables) as process:
        text, _ = process.communicate(timeout=300)
    return process.returncode, text


def parameters(folder: Path, name: ModelName = NAME) -> dict[str, object]:
    store = ModelStore(folder / "models")
    stored: dict[str, object] = json.loads(store.read_blob(store.read_manifest(name).of_kind("params")[0]))
    return stored


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_description("x" * 40_000_000)  # its downloader writes ten megabytes at a time
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_on_this_machine_is_registered_once(tmp_path: Path, gguf: Path) -> None:
    variables = environment(tmp_path, str(gguf))
    assert outcome(variables)[0] == 0
    assert parameters(tmp_path) == {"num_ctx": 256, "temperature": 0.5}
    before = gguf.read_bytes()
    gguf.unlink()
    assert outcome(variables)[0] == 0
    blob = ModelStore(tmp_path / "models").read_manifest(NAME).of_kind("model")[0]
    assert blob.size == len(before)
    other = ModelName.parse("llama:other")
    (tmp_path / "models" / "old.gguf").write_bytes(before)
    overriding = {
        "TUNESMITH_MODEL_NAME": "other",
        "TUNESMITH_SETUP_PARAMS__FILENAME": "old.gguf",
        "TUNESMITH_MODEL_PARAMS__CTX_SIZE": "128",
    }
    assert outcome({**variables, **overriding})[0] == 0
    assert parameters(tmp_path, other) == {"num_ctx": 128, "temperature": 0.5}


def test_a_download_goes_on_after_a_kill_and_after_a_cut(tmp_path: Path, gguf: Path) -> None:
    content = gguf.read_bytes()
    gguf.unlink()
    hub = Hub("/owner/models/resolve/main/tiny.gguf", content, faults=["hold", "cut"])
    with serving(hub):
        variables = environment(tmp_path, "tiny.gguf", "owner/models", HF_ENDPOINT=hub.url)
        with set_up(variables) as first:
            partial = tmp_path / "cache" / "downloads"
            wait_until(lambda: any(f.stat().st_size for f in partial.rglob("*.part")), 120, "half is on disk")
            first.kill()
        hub.release.set()
        status, said = outcome(variables)
        assert status == 0, said
        assert parameters(tmp_path)["num_ctx"] == 256
        assert hub.starts[0] == 0
        assert len(hub.starts) == 3
        assert 0 < hub.starts[1] < hub.starts[2]
        assert not (partial / "owner--models").exists()
        status, said = outcome(
            {**variables, "TUNESMITH_MODEL_NAME": "b", "TUNESMITH_SETUP_PARAMS__FILENAME": "no.gguf"}
        )
        assert status != 0
        assert "no.gguf of owner/models" in said


def test_a_file_from_before_gguf_is_converted_and_served(tmp_path: Path, cache_dir: Path) -> None:
    legacy = tmp_path / "ggml-model-f32.bin"
    write_legacy_model(legacy)
    variables = environment(tmp_path, str(legacy), TUNESMITH_CACHE_DIR=str(cache_dir))
    status, said = outcome(variables)
    assert status == 0, said
    shared = {"TUNESMITH_MODELS_DIR": str(tmp_path / "models"), "TUNESMITH_ENGINE_SEED": "false"}
    with platform_at(tmp_path / "data", **shared) as platform:
        platform.start("engine")
        body = {"model": "llama:tiny", "prompt": "a b", "raw": True, "stream": False, "options": {"num_predict": 4}}
        answer = httpx.post(f"{platform.services['engine'].url}/api/generate", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        assert answer.json()["eval_count"] >= 1


@pytest.mark.parametrize(
    ("content", "reason"), [(b"GGUF and no more", "invalid GGUF"), (b"tjgg\x09\0\0\0", "Converting")]
)
def test_a_file_that_is_no_model_is_refused_and_leaves_nothing(
    tmp_path: Path, cache_dir: Path, content: bytes, reason: str
) -> None:
    broken = tmp_path / "broken.bin"
    broken.write_bytes(content)
    status, said = outcome(environment(tmp_path, str(broken), TUNESMITH_CACHE_DIR=str(cache_dir)))
    assert status == 1
    assert reason in said
    assert ModelStore(tmp_path / "models").list() == []
    assert list((tmp_path / "models" / ".incoming").iterdir()) == []


def test_settings_say_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TUNESMITH_MODEL_NAME", "../x")
    with pytest.raises(SystemExit, match="cannot be a model's name"):
        load_settings(WorkerSettings)
    monkeypatch.setenv("TUNESMITH_MODEL_NAME", "x")
    with pytest.raises(SystemExit, match="filename"):
        load_settings(WorkerSettings)
