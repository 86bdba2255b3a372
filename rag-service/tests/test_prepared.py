"""The embedding model as the container image has it: its own files in place of the weights, and the same vectors."""

import shutil
from pathlib import Path

import numpy as np

from tunesmith_rag import embed_openvino
from tunesmith_rag.prepared import main
from tunesmith_rag.tokens import packaged

TEXTS = ["How many days of leave are there?", "The ferry leaves at half past nine. " * 12, "x"]


def test_the_prepared_model_takes_half_the_space_and_makes_the_same_vectors(tmp_path: Path) -> None:
    folder = packaged("all-minilm")
    assert folder is not None
    prepared = tmp_path / "model"
    shutil.copytree(folder, prepared)
    main(prepared)
    assert not (prepared / "model.safetensors").exists()
    assert sum(file.stat().st_size for file in prepared.rglob("*")) < 0.6 * sum(
        file.stat().st_size for file in folder.rglob("*")
    )
    assert ((_vectors(prepared) * _vectors(folder)).sum(axis=1) > 0.9995).all()


def _vectors(folder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    loaded = embed_openvino._load(folder, 1)
    return np.array(embed_openvino._vectors(loaded.requests, [loaded.tokenizer.encode(text) for text in TEXTS]))
