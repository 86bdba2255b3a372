"""A whole preference job over HTTP, whose adapter is served on the base as it is."""

import json
from typing import Any

import pytest
from ollama import Client

from tunesmith_finetune.testing import Worker
from tunesmith_shared.testing import Platform, wait_until

PAIRS = "prompt,chosen,rejected\nHi,Aye aye,Hello\nWhat is fog?,Aye a cloud,Mist\nBye,Aye farewell,See you\n"


@pytest.fixture(scope="module")
def job(worker: Worker) -> dict[str, Any]:
    hyperparameters = {"n_epochs": 3, "batch_size": 3, "lora_rank": 4, "beta": 0.2, "merge": False}
    created = worker.create(
        training_file=worker.upload(PAIRS),
        validation_file=worker.upload(PAIRS),
        model_name="liked",
        seed=7,
        parameters={"temperature": 0.5},
        method={"type": "dpo", "dpo": {"hyperparameters": hyperparameters}},
    )
    job_id = created.raise_for_status().json()["id"]
    wait_until(lambda: worker.job(job_id)["status"] not in ("validating_files", "queued", "running"), 540, "it ends")
    job = worker.job(job_id)
    assert (job["status"], job["error"]) == ("succeeded", None)
    return job


def test_reward_accuracy_is_measured_before_and_after(worker: Worker, platform: Platform, job: dict[str, Any]) -> None:
    report = json.loads((platform.data_dir / "files" / job["result_files"][0]).read_text(encoding="utf-8"))
    losses = report["losses"]
    assert losses["base_eval_loss"] == pytest.approx(0.6931, abs=1e-3)  # ln 2: the model is its own reference
    assert losses["base_eval_reward_accuracy"] == 0.5
    assert losses["eval_loss"] < losses["base_eval_loss"]
    assert losses["eval_reward_accuracy"] > 0.5
    assert job["method"]["dpo"]["hyperparameters"]["beta"] == 0.2
    metrics = [event["data"] for event in worker.events(job["id"]) if event["type"] == "metrics"]
    assert "train_reward_accuracy" in metrics[-1]
    assert any("reward accuracy" in message for message in worker.messages(job["id"]))


def test_the_adapter_is_served_on_the_base_with_the_bases_parameters(platform: Platform, job: dict[str, Any]) -> None:
    client = Client(platform.services["engine"].url)
    try:
        shown, base = client.show("liked"), client.show("smollm2:135m")
        answer = client.chat("liked", messages=[{"role": "user", "content": "Hi"}], options={"num_predict": 4})
    finally:
        client.close()  # type: ignore[no-untyped-call]
    assert shown.details is not None
    assert shown.details.parent_model == "smollm2:135m"
    assert answer.message.content
    assert _parameters(shown.parameters) == {**_parameters(base.parameters), "temperature": ["0.5"]}
    blobs = [path.stat() for path in (platform.data_dir / "models" / "blobs").iterdir()]
    assert len({blob.st_ino for blob in blobs if blob.st_size > 80_000_000}) == 1


def _parameters(text: str | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, _, value in (line.partition(" ") for line in (text or "").splitlines()):
        found.setdefault(name, []).append(value.strip())
    return found
