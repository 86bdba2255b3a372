"""The types that a job may ask for are those of llama-quantize, and are what comes out."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tunesmith_finetune.export import Exporter, ExportFailed, quantised_bytes, read_model_file
from tunesmith_finetune.hyperparameters import GGUF_TYPES, NEEDS_IMATRIX
from tunesmith_finetune.imatrix import compute_imatrix
from tunesmith_finetune.llama_cpp import LlamaCpp
from tunesmith_finetune.processes import Limits
from tunesmith_finetune.steps.products import names_of
from tunesmith_finetune.whole import write_json, write_json_lines
from tunesmith_finetune.workspace import Workspace
from tunesmith_shared.errors import BadRequest

UNREADABLE = {"Q2_0"}
"""What the tool writes and the gguf package cannot read back."""


@pytest.fixture
def exporter(tiny_cache: dict[str, str], tmp_path: Path) -> Exporter:
    return Exporter(LlamaCpp(Path(tiny_cache["TUNESMITH_LLAMA_CPP_DIR"])), Limits(None, 600), tmp_path / "log")


@pytest.fixture
def workspace(tiny_cache: dict[str, str], tiny_gguf: Path, tmp_path: Path) -> Workspace:
    """A job's folder with a merged file: the tiny base itself."""
    workspace = Workspace(tmp_path)
    (folder,) = Path(tiny_cache["TUNESMITH_CACHE_DIR"], "base-models").glob("*instruct-1")
    shutil.copyfile(tiny_gguf, workspace.merged_gguf)
    write_json(workspace.plan, {"base_folder": str(folder)})
    return workspace


def test_the_list_is_the_tools_own(exporter: Exporter) -> None:
    shown = subprocess.run(
        [exporter.tools.tool("llama-quantize"), "--help"], capture_output=True, text=True, check=False
    )
    listed = re.findall(r"^\s*(\d+)\s+or\s+(\S+)\s*:", shown.stdout + shown.stderr, re.MULTILINE)
    assert {name: int(number) for number, name in listed if name not in UNREADABLE} == GGUF_TYPES


def test_types_are_read_back_and_the_importance_matrix_makes_the_small_ones(
    exporter: Exporter, workspace: Workspace
) -> None:
    rows = [{"row": 2, "input_ids": list(range(100, 400)), "labels": list(range(100, 400))}]
    write_json_lines(workspace.tokens("train"), rows)
    assert asyncio.run(compute_imatrix(exporter, workspace)) == 300
    for gguf_type in ("Q8_0", "IQ4_NL", "IQ2_XXS"):
        matrix = workspace.imatrix if gguf_type in NEEDS_IMATRIX else None
        output = workspace.model_gguf(gguf_type)
        asyncio.run(exporter.quantise(workspace.merged_gguf, output, gguf_type, matrix))
        assert read_model_file(output, gguf_type).gguf_type == gguf_type
        assert output.stat().st_size <= quantised_bytes(workspace.merged_gguf, gguf_type)
    with pytest.raises(ExportFailed, match="was to be Q4_K_M and is Q8_0"):
        read_model_file(workspace.model_gguf("Q8_0"), "Q4_K_M")
    assert sorted(path.name for path in workspace.folder.iterdir()) == [
        "imatrix.gguf", "log", "merged-f16.gguf", "model-IQ2_XXS.gguf", "model-IQ4_NL.gguf", "model-Q8_0.gguf",
        "plan.json", "train.tokens.jsonl",
    ]  # fmt: skip


def test_too_little_data_for_a_matrix_is_said(exporter: Exporter, workspace: Workspace) -> None:
    write_json_lines(workspace.tokens("train"), [{"row": 2, "input_ids": [5, 6, 7], "labels": [5, 6, 7]}])
    with pytest.raises(BadRequest, match="3 tokens, too few"):
        asyncio.run(compute_imatrix(exporter, workspace))


def test_each_of_several_types_has_a_tag() -> None:
    assert names_of("keeper:latest", ["Q8_0"]) == {"Q8_0": ["keeper:latest"]}
    assert names_of("keeper:latest", ["Q4_K_M", "Q8_0"]) == {
        "Q4_K_M": ["keeper:latest", "keeper:q4_k_m"],
        "Q8_0": ["keeper:q8_0"],
    }
    assert names_of("keeper:v2", ["F16", "Q8_0"])["Q8_0"] == ["keeper:v2-q8_0"]
