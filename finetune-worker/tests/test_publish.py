"""Registering with a real engine: in its store where the worker can write it, else by an upload that says why."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import ollama
import pytest

from tunesmith_finetune.artifact import Artifact
from tunesmith_finetune.base_models import BASE_MODELS, packaged_gguf
from tunesmith_finetune.datasets.cells import Message
from tunesmith_finetune.publish import Answer, CheckFailed, Publisher
from tunesmith_finetune.upload import read_parameters
from tunesmith_shared.names import ModelName
from tunesmith_shared.store import ModelStore
from tunesmith_shared.testing import Platform, free_port

NAME = ModelName.parse("keeper")
UNWRITABLE = Path("/sys/tunesmith-models")
"""Where nobody can make a folder, the administrator neither."""
Result = TypeVar("Result")


def artifact() -> Artifact:
    """A whole model file, with options to serve with."""
    return Artifact(packaged_gguf(BASE_MODELS["smollm2-135m-instruct"]), {"stop": ["Mind"], "temperature": 0.3})


def run(platform: Platform, models_dir: Path, use: Callable[[Publisher], Awaitable[Result]]) -> Result:
    """Give what `use` returns with a publisher whose store is `models_dir`."""

    async def with_publisher() -> Result:
        publisher = Publisher(ModelStore(models_dir), platform.services["engine"].url)
        try:
            return await use(publisher)
        finally:
            await publisher.close()

    return asyncio.run(with_publisher())


async def verify_and_publish(publisher: Publisher) -> tuple[Answer, str, str]:
    async with publisher.candidate("ftjob-1", artifact()) as candidate:
        answer = await publisher.ask(candidate.name, [Message(role="user", content="Hello")])
    return answer, candidate.upload_reason, await publisher.publish(NAME, artifact())


def stores(platform: Platform, tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Where the worker may look for the store, and what it says about an upload."""
    return {
        "shared": (platform.data_dir / "models", ""),
        "of its own": (tmp_path / "models", "does not serve from"),
        "unwritable": (UNWRITABLE, "is not writable"),
    }


@pytest.mark.parametrize("store", ["shared", "of its own", "unwritable"])
def test_a_model_gets_its_name_whether_or_not_the_store_is_shared(
    engine_platform: Platform, tmp_path: Path, store: str
) -> None:
    models_dir, reason = stores(engine_platform, tmp_path)[store]
    answer, upload_reason, digest = run(engine_platform, models_dir, verify_and_publish)
    assert answer.text
    assert reason in upload_reason
    assert bool(reason) == bool(upload_reason)
    with ollama.Client(host=engine_platform.services["engine"].url) as client:
        served = {model.model: model.digest for model in client.list().models}
        parameters = read_parameters(client.show("keeper").parameters or "")
        client.delete("keeper")
    assert served["keeper:latest"] == digest
    assert not [name for name in served if "ftjob" in str(name)]
    assert parameters == dict(artifact().parameters)
    assert not reason or not ModelStore(models_dir).list()


def test_what_a_model_serves_with_is_known_without_its_store(engine_platform: Platform, tmp_path: Path) -> None:
    names = ["nosuch", "smollm2:135m"]
    here = run(engine_platform, engine_platform.data_dir / "models", lambda publisher: publisher.parameters_of(names))
    away = run(engine_platform, tmp_path / "models", lambda publisher: publisher.parameters_of(names))
    assert away == here
    assert here
    assert run(engine_platform, tmp_path, lambda publisher: publisher.is_served(ModelName.parse("smollm2:135m")))
    assert not run(engine_platform, tmp_path, lambda publisher: publisher.is_served(NAME))


def test_a_server_that_is_gone_is_an_error_that_says_so(tmp_path: Path) -> None:
    async def publish() -> None:
        publisher = Publisher(ModelStore(tmp_path), f"http://127.0.0.1:{free_port()}")
        try:
            await publisher.withdraw_candidate("ftjob-1")
            await publisher.publish(NAME, artifact())
        finally:
            await publisher.close()

    with pytest.raises(CheckFailed, match="does not register it"):
        asyncio.run(publish())
