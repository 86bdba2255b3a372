"""One folder for two servers: a store as a real Ollama fills it is served, and what the engine writes has its layout.

The folder is written here by hand, blob by blob, so that no code of ours decides what Ollama's layout is.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith_shared.testing import Platform, platform_at

from .conftest import CHAT, Engine

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.ollama.image."
CONFIG = {
    "model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "134.52M",
    "file_type": "Q4_1", "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
}  # fmt: skip
GO_TEMPLATE = "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ .Prompt }}"
OLD = 2 * 3600.0
ROOM_BYTES = 700 << 20  # for the small model once, with the caches of its four slots


class HandMadeStore:
    """A models folder with a manifest and blobs as Ollama's server writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs").mkdir(parents=True)

    def blob(self, content: bytes) -> dict[str, Any]:
        """Write a blob; gives its digest and size as a manifest has them."""
        name = hashlib.sha256(content).hexdigest()
        (self.folder / "blobs" / f"sha256-{name}").write_bytes(content)
        return {"digest": f"sha256:{name}", "size": len(content)}

    def model(self, path: str, gguf: bytes) -> None:
        """Write everything that a pulled chat model has."""
        layers = [
            ("model", gguf), ("template", GO_TEMPLATE.encode()), ("license", b"Apache-2.0"),
            ("system", b"You are a helpful assistant."), ("params", json.dumps({"stop": ["<|im_end|>"]}).encode()),
        ]  # fmt: skip
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, **self.blob(json.dumps(CONFIG).encode())},
            "layers": [{"mediaType": LAYER_TYPE + kind, **self.blob(content)} for kind, content in layers],
        }
        file = self.folder / "manifests" / path
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(manifest))

    def age(self, name: str) -> Path:
        """An old file in blobs/ that no manifest names."""
        file = self.folder / "blobs" / name
        file.write_bytes(b"left over")
        os.utime(file, (time.time() - OLD, time.time() - OLD))
        return file


@pytest.fixture(scope="module")
def pulled(engine_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine on a folder that a real Ollama filled with one model, and with what a crash left behind."""
    folder = tmp_path_factory.mktemp("pulled")
    source = engine_platform.data_dir / "models"
    manifest = json.loads((source / "manifests/registry.ollama.ai/library/smollm2/135m").read_bytes())
    [digest] = [layer["digest"] for layer in manifest["layers"] if layer["mediaType"].endswith(".model")]
    store = HandMadeStore(folder / "models")
    store.model("registry.ollama.ai/library/SmolLM2/135m", (source / "blobs" / digest.replace(":", "-")).read_bytes())
    store.age("sha256-" + "0" * 64)
    store.age("sha256-" + "1" * 64 + "-partial")
    with platform_at(folder, TUNESMITH_ENGINE_SEED="false", TUNESMITH_ENGINE_MEMORY_BYTES=str(ROOM_BYTES)) as platform:
        platform.start("engine")
        running = Engine(platform.services["engine"], folder / "models")
        yield running
        running.close()
    shutil.rmtree(folder)


def test_a_model_that_ollama_pulled_is_listed_and_answers_in_any_spelling(pulled: Engine) -> None:
    [listed] = pulled.ollama.list().models
    manifest = pulled.models_dir / "manifests/registry.ollama.ai/library/SmolLM2/135m"
    assert listed.model == "SmolLM2:135m"
    assert listed.digest == hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert listed.details is not None
    assert (listed.details.family, listed.details.quantization_level) == ("llama", "Q4_1")
    shown = pulled.http.post("/api/show", json={"model": "SMOLLM2:135M"}).json()
    assert (shown["system"], shown["template"], shown["license"]) == (
        "You are a helpful assistant.",
        GO_TEMPLATE,
        "Apache-2.0",
    )
    question = {"role": "user", "content": "Name the capital of France."}
    answer = pulled.ollama.chat(CHAT, [question], options={"temperature": 0})
    assert "Paris" in (answer.message.content or "")


def test_a_start_prunes_by_ollamas_rules(pulled: Engine) -> None:
    referenced = json.loads((pulled.models_dir / "manifests/registry.ollama.ai/library/SmolLM2/135m").read_bytes())
    kept = {layer["digest"].replace(":", "-") for layer in [referenced["config"], *referenced["layers"]]}
    assert {file.name for file in (pulled.models_dir / "blobs").iterdir()} == kept


def test_what_the_engine_writes_has_ollamas_layout(pulled: Engine) -> None:
    pulled.ollama.create(model="me/keeper:v1", from_=CHAT, system="Be brief.", parameters={"temperature": 0.5})
    blobs = pulled.models_dir / "blobs"
    manifest = json.loads((pulled.models_dir / "manifests/registry.ollama.ai/me/keeper/v1").read_bytes())
    assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, MANIFEST_TYPE)
    assert set(manifest) == {"schemaVersion", "mediaType", "config", "layers"}
    assert manifest["config"]["mediaType"] == CONFIG_TYPE
    kinds = {layer["mediaType"].removeprefix(LAYER_TYPE): layer for layer in manifest["layers"]}
    assert set(kinds) == {"model", "template", "license", "system", "params"}
    assert kinds["model"]["from"] == "SmolLM2:135m"
    for layer in [manifest["config"], *manifest["layers"]]:
        blob = blobs / layer["digest"].replace(":", "-")
        content = blob.read_bytes()
        assert layer["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
        assert layer["size"] == len(content)
        assert blob.stat().st_mode & 0o777 == 0o644

    contents = {kind: (blobs / layer["digest"].replace(":", "-")).read_bytes() for kind, layer in kinds.items()}
    assert contents["system"] == b"Be brief."
    assert json.loads(contents["params"]) == {"stop": ["<|im_end|>"], "temperature": 0.5}
    config = json.loads((blobs / manifest["config"]["digest"].replace(":", "-")).read_bytes())
    assert {**CONFIG, **config} == config


def test_the_least_recently_used_model_makes_room_in_the_memory_that_models_may_take(pulled: Engine) -> None:
    pulled.ollama.create(model="wide", from_=CHAT, parameters={"num_ctx": 512})
    first = pulled.process_of(CHAT)
    pulled.ollama.generate("wide", "")
    assert [model.model for model in pulled.ollama.ps().models] == ["wide:latest"]
    assert not first.is_running()
    assert len(pulled.model_processes()) == 1
