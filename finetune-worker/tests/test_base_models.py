"""Where base models come from: folders, and the hub where it is allowed; and what is not read."""

import asyncio
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith_finetune.base_models import RECORD, read_folder, split_reference
from tunesmith_finetune.base_store import BaseModelStore
from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.processes import ChildFailed, Limits
from tunesmith_shared.errors import BadRequest, NotFound, Unavailable

LIMITS = Limits(None, 300)
HUB = runpy.run_path(str(Path(__file__).with_name("hub_server.py")))
REVISION: str = HUB["REVISION"]
hub_serving: Callable[..., Any] = HUB["hub_serving"]


@pytest.fixture(scope="module")
def raw_base(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    """A base as people have it: safetensors, configuration and tokenizer, without a chat template."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    runpy.run_path(str(Path(__file__).with_name("tiny_base.py")))["make"](base_folder, folder)
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> BaseModelStore:
    (tmp_path / "bases").mkdir()
    return BaseModelStore(tmp_path / "cache", LIMITS, tmp_path / "bases", ["allowed/*"])


@pytest.fixture
def hub(raw_base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with hub_serving("allowed/tiny", raw_base) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


def test_a_reference_is_a_name_and_a_revision_and_never_a_path() -> None:
    assert split_reference("org/Name-1.5@main") == ("org/Name-1.5", "main")
    assert split_reference("name") == ("name", None)
    for name in ("../x", "a/../b", "/etc", "a/b/c", "a\\b", "", "a@../b", ".hidden", "-x"):
        assert split_reference(name) is None


def test_a_folder_is_found_by_its_name_and_prepared_again_when_it_changes(
    store: BaseModelStore, tmp_path: Path, raw_base: Path
) -> None:
    assert store.find("org/mine") is None
    source = tmp_path / "bases" / "org--mine"
    shutil.copytree(raw_base, source)
    base = store.find("ORG/mine")
    assert base is not None
    assert (base.name, base.context_length, base.revision) == ("org/mine", 8192, None)
    first = asyncio.run(store.prepare(base))
    assert store.parameters(base) == {"stop": ["<|im_end|>", "<|im_start|>"]}
    assert (first / "model.safetensors").samefile(source / "model.safetensors")
    assert asyncio.run(store.prepare(base)) == first
    os.utime(source / "config.json", ns=(1, 1))
    assert store.folder(base) != first


def test_a_base_without_a_template_gets_chatml_as_text_and_keeps_its_vocabulary(
    store: BaseModelStore, tmp_path: Path, raw_base: Path
) -> None:
    config = json.loads((raw_base / "tokenizer_config.json").read_text())
    assert not config.get("chat_template")
    shutil.copytree(raw_base, tmp_path / "bases" / "plain")
    base = store.find("plain")
    assert base is not None
    prepared = asyncio.run(store.prepare(base))
    encoder = Encoder(prepared)
    messages: Any = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Aye"}]
    example = Example(row=1, messages=messages, text=None, chosen=None, rejected=None)
    (asked, masked), (answer, learnt) = encoder.pieces(example)
    assert (asked, masked) == ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", False)
    assert (answer, learnt) == ("Aye<|im_end|>", True)
    assert json.loads((prepared / "config.json").read_text())["vocab_size"] == 49152


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "no safetensors"),
        (lambda folder: (folder / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}'), "its own code"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "nosuch"}'), "nosuch"),
    ],
)
def test_what_could_run_code_or_is_unknown_is_refused(
    store: BaseModelStore, tmp_path: Path, raw_base: Path, change: Callable[[Path], Any], said: str
) -> None:
    folder = tmp_path / "bases" / "bad"
    shutil.copytree(raw_base, folder)
    change(folder)
    base = read_folder(folder)
    assert base is not None
    with pytest.raises(ChildFailed) as refused:
        asyncio.run(store.prepare(base))
    assert said in refused.value.tail
    assert not store.folder(base).exists()


def test_a_model_of_the_hub_is_fetched_at_its_immutable_revision(
    store: BaseModelStore, tmp_path: Path, hub: Any, raw_base: Path
) -> None:
    (raw_base / "pytorch_model.bin").write_bytes(b"pickled")
    (raw_base / "modeling.py").write_text("raise SystemExit")
    base = asyncio.run(store.resolve("allowed/tiny"))
    assert base is not None
    assert (base.reference, base.license, base.source) == (f"allowed/tiny@{REVISION}", "apache-2.0", None)
    assert store.recall(base.reference) is not None

    fetched = asyncio.run(store.fetched(base))
    assert fetched.context_length == 8192
    folder = tmp_path / "bases" / "allowed--tiny" / REVISION
    assert fetched.source == folder
    assert json.loads((folder / RECORD).read_text())["revision"] == REVISION
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert not {"pytorch_model.bin", "modeling.py"} & {path.name for path in folder.iterdir()}
    assert hub.tokens == {"Bearer hf_secret"}

    hub.asked.clear()
    again = asyncio.run(store.resolve("allowed/tiny"))
    assert again is not None
    assert again.source == folder
    assert hub.asked == []


def test_a_model_that_the_script_downloaded_is_found_and_prepared(
    store: BaseModelStore, tmp_path: Path, hub: Any, raw_base: Path
) -> None:
    script = Path(__file__).parents[2] / "scripts" / "load_base_model.py"
    command = [sys.executable, str(script), "allowed/tiny", "--to", str(tmp_path / "bases")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "0"})
    hub.asked.clear()

    base = asyncio.run(store.resolve("allowed/tiny"))
    assert base is not None
    assert (base.reference, base.license, base.context_length) == (f"allowed/tiny@{REVISION}", "apache-2.0", 8192)
    assert base.source == tmp_path / "bases" / "allowed--tiny" / REVISION
    assert store.recall(base.reference) == base
    assert [known.name for known in store.known()][1:] == ["allowed/tiny"]
    prepared = asyncio.run(store.prepare(base))
    assert (prepared / "model.safetensors").samefile(base.source / "model.safetensors")
    assert Encoder(prepared).tokens("What is fog?")
    assert hub.asked == []


def test_the_revision_that_came_last_is_meant_where_none_is_named(
    store: BaseModelStore, tmp_path: Path, raw_base: Path
) -> None:
    for age, revision in enumerate(("newer", "older")):
        folder = tmp_path / "bases" / "org--mine" / revision
        shutil.copytree(raw_base, folder)
        (folder / RECORD).write_text(json.dumps({"repository": "org/mine", "revision": revision}))
        os.utime(folder, (1000 - age, 1000 - age))
    (tmp_path / "bases" / "org--mine" / ".unfinished.part").mkdir()
    found = {name: store.find(name) for name in ("org/mine", "org/mine@older", "org/mine@other")}
    assert [base.revision if base else None for base in found.values()] == ["newer", "older", None]


def test_what_the_hub_does_not_have_or_nobody_allowed_is_refused(store: BaseModelStore, hub: Any) -> None:
    assert asyncio.run(store.resolve("other/tiny")) is None
    assert hub.asked == []
    with pytest.raises(NotFound):
        asyncio.run(store.resolve("allowed/nosuch"))


def test_weights_that_could_run_code_are_not_fetched(
    store: BaseModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"pickled")
    with hub_serving("allowed/pickled", tmp_path / "pickled") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(BadRequest, match="no safetensors"):
            asyncio.run(store.resolve("allowed/pickled"))


def test_a_hub_that_does_not_answer_is_said_to_be_away(store: BaseModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable):
        asyncio.run(store.resolve("allowed/tiny"))
