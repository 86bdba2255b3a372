"""Adapters on one base answer from one process, each with its own words, and the base with its own."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ollama import Client

from tunesmith_finetune.export import Exporter
from tunesmith_finetune.llama_cpp import LlamaCpp
from tunesmith_finetune.processes import Limits
from tunesmith_shared.names import ModelName
from tunesmith_shared.store import ModelStore, publish_adapter, publish_gguf
from tunesmith_shared.testing import Platform, platform_at


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, tiny_cache: dict[str, str], tiny_gguf: Path) -> dict[str, Path]:
    """The tiny base and three adapters for it, as GGUF."""
    folder = tmp_path_factory.mktemp("adapters")
    (base,) = Path(tiny_cache["TUNESMITH_CACHE_DIR"], "base-models").glob("*instruct-1")
    exporter = Exporter(LlamaCpp(Path(tiny_cache["TUNESMITH_LLAMA_CPP_DIR"])), Limits(None, 600), folder / "log")
    made = {name: folder / f"{name}.gguf" for name in ("one", "two", "late")}
    command = [sys.executable, str(Path(__file__).with_name("tiny_adapter.py")), str(base), "4"]
    subprocess.run([*command, *(str(folder / name) for name in made)], check=True, capture_output=True)

    async def convert() -> None:
        await asyncio.gather(*(exporter.adapter_to_gguf(folder / name, base, file) for name, file in made.items()))

    asyncio.run(convert())
    return {"base": tiny_gguf, **made}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, tiny_cache: dict[str, str]) -> Iterator[Platform]:
    with platform_at(tmp_path_factory.mktemp("many"), **tiny_cache) as running:
        running.start("engine")
        yield running


def say(client: Client, model: str) -> str:
    options = {"temperature": 0, "num_predict": 12, "seed": 1}
    return str(client.generate(model, "Hello there", raw=True, options=options).response)


def loads(platform: Platform) -> int:
    """How often a model process was started."""
    return len(re.findall(r"\bloaded ", platform.services["engine"].log.read_text()))


def test_a_base_and_its_adapters_take_turns_without_a_load(platform: Platform, files: dict[str, Path]) -> None:
    store = ModelStore(platform.data_dir / "models")

    def register(name: str) -> None:
        publish_adapter(store, ModelName.parse(name), files["base"], files[name], base_name="base", parameters={})

    publish_gguf(store, ModelName.parse("base"), files["base"], system=None, parameters=None)
    register("one")
    register("two")
    with Client(platform.services["engine"].url) as client:
        first = {name: say(client, name) for name in ("base", "one", "two")}
        assert len(set(first.values())) == 3
        assert {name: say(client, name) for name in ("two", "base", "one")} == first
        assert loads(platform) == 1
        register("late")
        assert say(client, "late") not in first.values()
        assert loads(platform) == 2
        assert {name: say(client, name) for name in first} == first
        assert loads(platform) == 2
