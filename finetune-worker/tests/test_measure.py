"""A model file is measured as the base is: the file that the base was made from has the base's own loss."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith_finetune.base_models import BASE_MODELS, packaged_gguf
from tunesmith_finetune.datasets.cells import Message
from tunesmith_finetune.datasets.encode import Encoder
from tunesmith_finetune.datasets.formats import Example
from tunesmith_finetune.measures import Figures, measure, texts
from tunesmith_finetune.testing import ROWS
from tunesmith_finetune.whole import write_json


def _chat(prompt: str, answer: str) -> Example:
    messages = [Message(role="user", content=prompt), Message(role="assistant", content=answer)]
    return Example(row=2, messages=messages, text=None, chosen=None, rejected=None)


def test_the_loss_of_a_quantised_file_is_that_of_its_weights(base_folder: Path, tmp_path: Path) -> None:
    rows = [dict(Encoder(base_folder).encode_chat(_chat(*row))) for row in ROWS[:2]]
    gguf = packaged_gguf(BASE_MODELS["smollm2-135m-instruct"])
    subjects = [{"name": "Q4_1", "gguf": str(gguf)}, {"name": "gone", "gguf": str(tmp_path / "no.gguf")}]
    write_json(tmp_path / "proof.json", {"texts": texts(rows), "subjects": subjects})
    write_json(tmp_path / "plan.json", {"threads": None, "base_folder": str(base_folder)})
    command = [sys.executable, "-m", "tunesmith_finetune.measure", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert "error" in found["gone"]
    figures = [Figures(*text) for text in found["Q4_1"]["figures"]]
    measured = measure("supervised", rows, figures, figures, None)

    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    loss_sum, count = 0.0, 0
    for row in rows:
        labels = torch.tensor([row["labels"]])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
        learnt = labels[0, 1:] != -100
        loss_sum += torch.nn.functional.cross_entropy(logits[learnt], labels[0, 1:][learnt], reduction="sum").item()
        count += int(learnt.sum())
    assert measured["tokens"] == count
    assert measured["loss"] == pytest.approx(loss_sum / count, rel=0.005)
