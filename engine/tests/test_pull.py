"""Fetching models from a registry: whole, resumed, checked, and only from where it is allowed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

from tunesmith_shared.testing import Platform, free_port, platform_at, wait_until
from tunesmith_shared.testing_registry import Registry, registry_of

from .conftest import CHAT, Engine

EXACT: dict[str, Any] = {"temperature": 0, "seed": 1, "num_predict": 12}
PIECE = 20 << 20


@pytest.fixture
def registry(engine_platform: Platform) -> Iterator[Registry]:
    """A registry with the seeded models."""
    with registry_of(engine_platform.data_dir / "models") as registry:
        yield registry


@pytest.fixture
def empty(registry: Registry, tmp_path: Path) -> Iterator[Engine]:
    """An engine without models that may pull from the registry."""
    with platform_at(
        tmp_path, TUNESMITH_ENGINE_SEED="false", TUNESMITH_ENGINE_REGISTRIES=f"Registry.Example, {registry.address}"
    ) as platform:
        platform.start("engine")
        running = Engine(platform.services["engine"], tmp_path / "models")
        yield running
        running.close()


def pull(engine: Engine, name: str) -> list[dict[str, Any]]:
    """All lines of a pull."""
    with engine.http.stream("POST", "/api/pull", json={"model": name, "insecure": True}) as response:
        assert response.status_code == 200
        return [json.loads(line) for line in response.iter_lines()]


def files_of(engine: Engine) -> list[str]:
    """What lies in the engine's store, without the lock and the empty folders."""
    return [path.name for path in engine.models_dir.rglob("*") if path.is_file() and not path.name.startswith(".")]


def layers_of(registry: Registry) -> list[dict[str, Any]]:
    """The chat model's blobs as its manifest names them."""
    path = registry.models_dir / "manifests/registry.ollama.ai/library/smollm2/135m"
    manifest = json.loads(path.read_bytes())
    return [*manifest["layers"], manifest["config"]]


def test_a_pulled_model_is_the_registrys_byte_for_byte_and_is_fetched_once(
    empty: Engine, registry: Registry, engine: Engine
) -> None:
    registry.redirects = True
    name = registry.name(CHAT)
    lines = list(empty.ollama.pull(name, insecure=True, stream=True))
    statuses = [line.status or "" for line in lines]
    assert (statuses[0], statuses[-2:]) == ("pulling manifest", ["writing manifest", "success"])
    assert statuses.count("verifying sha256 digest") == len(layers_of(registry))
    for layer in layers_of(registry):
        [*_, last] = [line for line in lines if line.digest == layer["digest"]]
        assert last.status == f"pulling {layer['digest'][7:19]}"
        assert last.completed == last.total == layer["size"]
    [listed] = empty.ollama.list().models
    [original] = [model for model in engine.ollama.list().models if model.model == CHAT]
    assert (listed.model, listed.digest) == (f"{registry.address}/library/{CHAT}", original.digest)
    assert empty.say(name, "Count to five.", **EXACT) == engine.say(CHAT, "Count to five.", **EXACT)
    asked = len(registry.blobs_asked)
    again = empty.http.post("/api/pull", json={"name": name, "insecure": True, "stream": False})
    assert again.json() == {"status": "success"}
    assert (asked, len(registry.blobs_asked)) == (len(layers_of(registry)), asked)


def test_a_broken_connection_goes_on_where_it_broke(empty: Engine, registry: Registry) -> None:
    registry.breaks_after = PIECE
    assert pull(empty, registry.name(CHAT))[-1] == {"status": "success"}
    big = max(layers_of(registry), key=lambda layer: int(layer["size"]))
    starts = [start for digest, start in registry.blobs_asked if digest == big["digest"]]
    assert starts == list(range(0, big["size"], PIECE))


def test_a_killed_engine_goes_on_where_it_was_and_lists_nothing_before(empty: Engine, registry: Registry) -> None:
    registry.holds_after = PIECE
    big = max(layers_of(registry), key=lambda layer: int(layer["size"]))
    partial = empty.models_dir / ".incoming" / f"{big['digest'].replace(':', '-')}.partial"
    connection = empty.send("/api/pull", {"model": registry.name(CHAT), "insecure": True})
    wait_until(lambda: partial.exists() and partial.stat().st_size == PIECE, 60, "half of the model is there")
    empty.service.kill()
    connection.close()
    registry.holds_after = None
    registry.go_on.set()
    empty.service.start()
    assert empty.ollama.list().models == []
    assert pull(empty, registry.name(CHAT))[-1] == {"status": "success"}
    assert [start for digest, start in registry.blobs_asked if digest == big["digest"]] == [0, PIECE]


def test_two_pulls_at_once_fetch_a_blob_once(empty: Engine, registry: Registry) -> None:
    registry.holds_after = PIECE
    lines = [pulling(empty, registry) for _ in range(2)]
    assert [json.loads(next(one))["status"] for one in lines] == ["pulling manifest"] * 2
    registry.go_on.set()
    assert [json.loads(list(one)[-1]) for one in lines] == [{"status": "success"}] * 2
    assert len(registry.blobs_asked) == len(layers_of(registry))


def pulling(engine: Engine, registry: Registry) -> Iterator[str]:
    """The lines of a pull as they come."""
    body = {"model": registry.name(CHAT), "insecure": True}
    with engine.http.stream("POST", "/api/pull", json=body) as response:
        yield from response.iter_lines()


def test_bytes_of_another_digest_are_refused_and_removed(empty: Engine, registry: Registry) -> None:
    registry.lies = True
    error = pull(empty, registry.name(CHAT))[-1]["error"]
    assert "digest mismatch" in error
    assert empty.ollama.list().models == []
    assert files_of(empty) == []
    registry.lies = False
    assert pull(empty, registry.name(CHAT))[-1] == {"status": "success"}


def test_a_registry_without_ranges_sends_all_again(empty: Engine, registry: Registry) -> None:
    registry.breaks_after, registry.ranges = PIECE, False
    error = pull(empty, registry.name(CHAT))[-1]["error"]
    assert "the connection broke 5 times in a row" in error
    registry.breaks_after = None
    assert pull(empty, registry.name(CHAT))[-1] == {"status": "success"}


def test_what_is_not_there_is_said_as_ollama_says_it(empty: Engine, registry: Registry) -> None:
    name = registry.name("nosuch")
    assert pull(empty, name) == [{"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"}]
    with pytest.raises(ollama.ResponseError, match="pull model manifest: file does not exist") as caught:
        empty.ollama.pull(name, insecure=True)
    assert caught.value.status_code == 500


def test_a_registry_that_is_away_and_one_that_is_not_allowed(empty: Engine, registry: Registry) -> None:
    with pytest.raises(
        ollama.ResponseError, match=r"models of 127.0.0.1:\d+ are not fetched here, only those of"
    ) as no:
        empty.ollama.pull(f"http://127.0.0.1:{free_port()}/library/smollm2", insecure=True)
    assert no.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match=r"registry.example cannot be reached \(.+\); check the connection"):
        empty.ollama.pull("http://registry.example/library/smollm2", insecure=True)
