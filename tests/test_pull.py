"""A model from a registry, through the gateway: with the command line, with Ollama's client, and not over others'."""

import os
import subprocess
import sys
from collections.abc import Iterator

import ollama
import pytest

from tunesmith_shared.testing import Platform, platform_at
from tunesmith_shared.testing_registry import Registry, registry_of

MODEL = "all-minilm:latest"


@pytest.fixture(scope="module")
def registry(engine_platform: Platform) -> Iterator[Registry]:
    with registry_of(engine_platform.data_dir / "models") as registry:
        yield registry


@pytest.fixture(scope="module")
def platform(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    settings = {"TUNESMITH_ENGINE_SEED": "false", "TUNESMITH_ENGINE_REGISTRIES": registry.address}
    with platform_at(tmp_path_factory.mktemp("pull"), **settings) as platform:
        platform.start("engine", "gateway")
        yield platform


def tunesmith(platform: Platform, *words: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    return subprocess.run(
        [sys.executable, "-m", "tunesmith_gateway.cli", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**kept, "TUNESMITH_URL": platform.url, "TUNESMITH_API_KEY": platform.key},
    )


def test_the_command_line_pulls_and_says_what_it_does(platform: Platform, registry: Registry) -> None:
    name = registry.name(MODEL)
    done = tunesmith(platform, "models", "pull", name, "--insecure")
    assert done.returncode == 0, done.stderr
    statuses = done.stdout.splitlines()
    assert (statuses[0], statuses[-1]) == ("pulling manifest", "success")
    assert statuses.count("verifying sha256 digest") == 4  # as many as the model has blobs
    assert len(statuses) == len(set(statuses)) + 3  # each once, but for these
    assert name.removeprefix("http://") in tunesmith(platform, "models", "list").stdout
    refused = tunesmith(platform, "models", "pull", "elsewhere.example/a/b")
    assert refused.returncode == 1
    assert refused.stderr.startswith("tunesmith: models of elsewhere.example are not fetched here")
    absent = tunesmith(platform, "models", "pull", registry.name("nosuch"), "--insecure")
    assert absent.stderr == "tunesmith: pull model manifest: file does not exist\n"


@pytest.fixture
def client(platform: Platform) -> Iterator[ollama.Client]:
    client = ollama.Client(host=platform.url, headers={"authorization": f"Bearer {platform.key}"}, timeout=120)
    yield client
    client._client.close()


def test_ollamas_client_pulls_what_everyone_may_use_but_not_over_a_model_that_somebody_made(
    client: ollama.Client, registry: Registry
) -> None:
    name = registry.name(MODEL)
    assert client.pull(name, insecure=True).status == "success"
    listed = name.removeprefix("http://")
    assert len(client.embed(listed, "a lighthouse").embeddings[0]) == 384
    client.create(model="mine", from_=listed, parameters={"num_ctx": 128})
    before = [model.digest for model in client.list().models if model.model == "mine:latest"]
    with pytest.raises(ollama.ResponseError, match="'mine:latest' is that of a model that was made here") as refused:
        client.pull("mine")
    assert refused.value.status_code == 409
    assert [model.digest for model in client.list().models if model.model == "mine:latest"] == before
