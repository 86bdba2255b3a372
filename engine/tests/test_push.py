"""Publishing models in a registry: whole, once, with what it says when it will not take them."""

from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest

from tunesmith_shared.testing import Platform, platform_at
from tunesmith_shared.testing_registry import Registry, registry_of

from .conftest import CHAT, Engine, copy_store


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry without models."""
    with registry_of(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def publisher(engine_platform: Platform, registry: Registry, tmp_path: Path) -> Iterator[Engine]:
    """An engine with the seeded models that may publish in the registry."""
    folder = tmp_path / "publisher"
    with platform_at(folder, TUNESMITH_ENGINE_REGISTRIES=registry.address) as platform:
        copy_store(engine_platform, folder)
        platform.start("engine")
        running = Engine(platform.services["engine"], folder / "models")
        running.ollama.copy(CHAT, own(registry))
        yield running
        running.close()


def own(registry: Registry) -> str:
    """The name in the store of what is published."""
    return f"{registry.address}/library/mine:v1"


def test_a_published_model_is_pulled_byte_for_byte_and_sent_once(publisher: Engine, registry: Registry) -> None:
    lines = list(publisher.ollama.push(f"http://{own(registry)}", insecure=True, stream=True))
    statuses = [line.status or "" for line in lines]
    assert (statuses[0], statuses[-2:]) == ("retrieving manifest", ["pushing manifest", "success"])
    for digest in registry.blobs_taken:
        [*_, last] = [line for line in lines if line.digest == digest]
        assert last.status == f"pushing {digest[7:19]}"
        assert last.completed == last.total
    sent = len(registry.blobs_taken)
    assert sent == len(list((registry.models_dir / "blobs").iterdir())) > 1

    body = {"model": f"http://{own(registry)}", "insecure": True, "stream": False}
    assert publisher.http.post("/api/push", json=body).json() == {"status": "success"}
    assert len(registry.blobs_taken) == sent

    [before] = [model.digest for model in publisher.ollama.list().models if model.model == own(registry)]
    publisher.ollama.delete(own(registry))
    publisher.ollama.pull(f"http://{own(registry)}", insecure=True)
    assert before in [model.digest for model in publisher.ollama.list().models if model.model == own(registry)]


def test_a_broken_connection_sends_the_blob_again(publisher: Engine, registry: Registry) -> None:
    registry.breaks_uploads = 2
    publisher.ollama.push(f"http://{own(registry)}", insecure=True)
    assert len(registry.blobs_taken) == len(set(registry.blobs_taken)) > 1
    registry.breaks_uploads = 3
    (registry.models_dir / "blobs" / registry.blobs_taken[0].replace(":", "-")).unlink()
    with pytest.raises(ollama.ResponseError, match=r"broke 3 times \(.+\); check it, and push again"):
        publisher.ollama.push(f"http://{own(registry)}", insecure=True)


def test_a_registry_that_wants_a_sign_in_is_named_and_nothing_is_published(
    publisher: Engine, registry: Registry
) -> None:
    registry.wants_sign_in = True
    with pytest.raises(ollama.ResponseError, match="does not take it without signing in") as refused:
        publisher.ollama.push(f"http://{own(registry)}", insecure=True)
    assert refused.value.status_code == 500
    assert not registry.models_dir.exists()
