"""The model store on a real folder: publishing, listing, deletion, pruning, and what must never become visible."""

import errno
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from tunesmith_shared.errors import BadRequest, NotFound, StorageFull
from tunesmith_shared.store import ModelName, ModelStore, publish_gguf


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def write_gguf(path: Path, seed: int = 0) -> Path:
    """A whole, tiny GGUF file that differs with the seed."""
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(0)
    writer.add_context_length(64)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("token_embd.weight", np.full((4, 32), seed, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def _age(path: Path) -> None:
    os.utime(path, (time.time() - 7200,) * 2)


def test_a_published_model_is_listed_as_ollama_describes_it(store: ModelStore, tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "tiny.gguf")
    _age(gguf)
    name = ModelName.parse("me/tiny:v1")

    publish_gguf(store, name, gguf, system="Be brief.", parameters={"temperature": 0.2, "stop": ["x"]})

    [model] = store.list()
    assert model.name.display == "me/tiny:v1"
    assert [layer.kind for layer in model.manifest.layers] == ["model", "system", "params"]
    file = store.manifests_dir / "registry.ollama.ai" / "me" / "tiny" / "v1"
    assert model.manifest.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    config = json.loads(store.read_blob(model.manifest.config))
    assert config == {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "128",
        "file_type": "F32",
        "architecture": "amd64",
        "os": "linux",
    }
    [params] = model.manifest.of_kind("params")
    assert json.loads(store.read_blob(params)) == {"temperature": 0.2, "stop": ["x"]}
    blob = store.blob_path(model.manifest.layers[0].digest)
    assert blob.read_bytes() == gguf.read_bytes()
    assert blob.stat().st_mode & 0o777 == 0o644
    assert blob.stat().st_ino == gguf.stat().st_ino
    assert time.time() - blob.stat().st_mtime < 3600, "an old time would let Ollama prune the blob"


def test_a_name_is_found_in_any_case_and_keeps_its_first_spelling(store: ModelStore, tmp_path: Path) -> None:
    publish_gguf(store, ModelName.parse("Tiny"), write_gguf(tmp_path / "1"), system=None, parameters=None)
    publish_gguf(store, ModelName.parse("tINY:LATEST"), write_gguf(tmp_path / "2", 1), system=None, parameters=None)

    [model] = store.list()
    assert model.name.display == "Tiny:latest"
    assert store.read_manifest(ModelName.parse("tiny")) == model.manifest


def test_delete_keeps_blobs_that_another_model_uses(store: ModelStore, tmp_path: Path) -> None:
    first, second = ModelName.parse("first"), ModelName.parse("second")
    manifest = publish_gguf(store, first, write_gguf(tmp_path / "g"), system="s", parameters=None)
    store.copy(first, second)

    store.delete(first)
    assert store.has_blob(manifest.layers[0].digest)
    assert [model.name.display for model in store.list()] == ["second:latest"]

    store.delete(second)
    assert list(store.blobs_dir.iterdir()) == []
    with pytest.raises(NotFound, match="model 'second' not found"):
        store.delete(second)


def test_a_manifest_that_names_a_missing_blob_is_refused_and_one_found_is_not_listed(
    store: ModelStore, tmp_path: Path
) -> None:
    name = ModelName.parse("m")
    manifest = publish_gguf(store, name, write_gguf(tmp_path / "g"), system=None, parameters=None)
    store.blob_path(manifest.layers[0].digest).unlink()

    assert store.list() == []
    with pytest.raises(BadRequest, match="missing"):
        store.write_manifest(ModelName.parse("again"), manifest)
    assert not store.has_model(ModelName.parse("again"))


def test_prune_deletes_old_orphans_and_strange_names_only(store: ModelStore, tmp_path: Path) -> None:
    manifest = publish_gguf(store, ModelName.parse("m"), write_gguf(tmp_path / "g"), system=None, parameters=None)
    kept = store.blob_path(manifest.layers[0].digest)
    _age(kept)
    young = store.blob_path(store.put_blob_bytes(b"young"))
    old = store.blob_path(store.put_blob_bytes(b"old"))
    _age(old)
    (store.blobs_dir / "strange").write_bytes(b"")
    abandoned = store.incoming_dir / "blob-abandoned"
    abandoned.write_bytes(b"")
    _age(abandoned)

    assert store.prune() == 3
    assert kept.exists()
    assert young.exists()
    assert not old.exists()
    assert not abandoned.exists()


async def test_an_upload_with_another_digest_leaves_nothing(store: ModelStore) -> None:
    right = "sha256:" + hashlib.sha256(b"abcd").hexdigest()
    with pytest.raises(BadRequest, match="digest mismatch"):
        await store.write_blob_stream(right, _chunks(b"abcx"))
    assert not store.has_blob(right)
    assert list(store.incoming_dir.iterdir()) == []

    await store.write_blob_stream(right, _chunks(b"ab", b"cd"))
    assert store.blob_path(right).read_bytes() == b"abcd"


async def test_an_upload_that_breaks_off_leaves_nothing(store: ModelStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"ab"
        raise ConnectionResetError

    digest = "sha256:" + hashlib.sha256(b"abcd").hexdigest()
    with pytest.raises(ConnectionResetError):
        await store.write_blob_stream(digest, broken())
    assert not store.has_blob(digest)
    assert list(store.incoming_dir.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = write_gguf(tmp_path / "g")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull, match="free some space"):
        publish_gguf(store, ModelName.parse("m"), gguf, system=None, parameters=None)
    with pytest.raises(StorageFull, match="free some space"):
        store.put_blob_file(gguf)
    monkeypatch.undo()
    assert store.list() == []
    assert list(store.incoming_dir.iterdir()) == []
    publish_gguf(store, ModelName.parse("m"), gguf, system=None, parameters=None)
    assert len(store.list()) == 1


def test_a_copied_file_is_another_file(store: ModelStore, tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(b"content")
    digest = store.put_blob_file(source)
    assert store.blob_path(digest).read_bytes() == b"content"
    assert store.blob_path(digest).stat().st_ino != source.stat().st_ino


@pytest.mark.parametrize("digest", ["", "sha256:short", "sha256:" + "G" * 64, "md5:" + "0" * 64, "../" + "0" * 64])
def test_what_is_no_digest_is_refused(store: ModelStore, digest: str) -> None:
    with pytest.raises(BadRequest, match="invalid digest format"):
        store.blob_path(digest)
