"""The worker as a process, over HTTP: what it refuses, and a whole job that survives being killed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from ollama import Client

from tunesmith_finetune.testing import CSV, OWNER, ROWS, Worker, worker_for
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.settings import async_database_url
from tunesmith_shared.tables import Model
from tunesmith_shared.testing import Platform, wait_until


def test_without_the_service_token_nothing_is_answered(worker: Worker) -> None:
    url = f"{worker.http.base_url}/v1/fine_tuning/jobs"
    assert httpx.get(url, headers={"x-tunesmith-owner": OWNER}).status_code == 401


def test_base_models_are_listed(worker: Worker) -> None:
    (base,) = worker.http.get("/v1/base_models").json()["data"]
    assert (base["id"], base["served_as"]) == ("smollm2-135m-instruct", ["smollm2:135m"])


@pytest.mark.parametrize(
    ("body", "status", "param", "part"),
    [
        ({"model": "nosuch:7b"}, 404, "model", "smollm2-135m-instruct"),
        ({"training_file": "file-000000000000000000000000"}, 404, "training_file", "no file"),
        ({"datasets": [{"file": "file-000000000000000000000000"}]}, 404, "datasets.0.file", "no file"),
        ({"datasets": [{"file": "f", "weight": 0}]}, 400, None, "weight"),
        ({"model_name": "../evil"}, 400, "model_name", "letters, digits"),
        ({"model_name": "smollm2:135m"}, 409, "model_name", "base model"),
        ({"model_name": "all-minilm"}, 409, "model_name", "already"),
        ({"method": {"type": "dpo"}}, 400, "training_file", "Choose the method 'supervised'"),
        ({"method": {"supervised": {"hyperparameters": {"n_epochs": 0}}}}, 400, None, "n_epochs"),
        ({"method": {"supervised": {"hyperparameters": {"epochs": 1}}}}, 400, None, "epochs"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    worker: Worker, body: dict[str, Any], status: int, param: str | None, part: str
) -> None:
    answer = worker.create(**{"training_file": worker.upload(CSV), **body})
    assert answer.status_code == status
    assert part in answer.json()["error"]["message"]
    assert param is None or answer.json()["error"]["param"] == param


def test_a_dataset_without_the_columns_is_refused_at_once(worker: Worker) -> None:
    file = worker.upload("ask,reply\na,b\n")
    error = worker.create(training_file=file)
    assert error.status_code == 400
    assert "ask, reply" in error.json()["error"]["message"]
    wrong = worker.create(training_file=worker.upload(CSV), validation_file=file)
    assert wrong.json()["error"]["param"] == "validation_file"


def test_another_owners_things_are_not_there(worker: Worker, platform: Platform) -> None:
    with worker_for(platform, "owner-2") as stranger:
        assert stranger.create(training_file=worker.upload(CSV)).status_code == 404
        assert stranger.http.get("/v1/fine_tuning/jobs").json()["data"] == []


def test_another_owners_model_name_is_taken(worker: Worker, platform: Platform) -> None:
    async def own() -> None:
        database = Database(async_database_url(platform.environment["TUNESMITH_DATABASE_URL"]))
        async with database.session() as session:
            session.add(Model(name="theirs:latest", owner="owner-2", base_model="x", job_id=None, created_at=now()))
        await database.close()

    asyncio.run(own())
    answer = worker.create(training_file=worker.upload(CSV), model_name="Theirs")
    assert (answer.status_code, answer.json()["error"]["param"]) == (409, "model_name")


def test_rows_longer_than_max_length_fail_the_job_with_their_numbers(worker: Worker) -> None:
    file = worker.upload(f'{CSV}"{"long " * 200}","answer"\n')
    method = {"type": "supervised", "supervised": {"hyperparameters": {"max_length": 150}}}
    job_id = worker.create(training_file=file, method=method).json()["id"]
    wait_until(lambda: worker.job(job_id)["status"] == "failed", 600, "the job fails")
    error = worker.job(job_id)["error"]
    assert (error["code"], error["param"]) == ("row_too_long", "training_file")
    assert "Row 8: longer than max_length, 150 tokens" in error["message"]


def test_a_preview_shows_what_a_job_would_do_and_starts_nothing(worker: Worker) -> None:
    body: dict[str, Any] = {
        "model": "smollm2:135m",
        "training_file": (first := worker.upload(f'{CSV}"{"long " * 200}","answer"\n')),
        "datasets": [
            {"file": first, "weight": 2},
            {"file": worker.upload("question,answer\nQ?,#### 4\nQ?,2+2=<<2+2=4>>4\n#### 4\n"), "format": "gsm8k"},
        ],
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"max_length": 150, "n_epochs": 2}}},
    }
    before = worker.http.get("/v1/fine_tuning/jobs").json()["data"]
    refused = worker.http.post("/v1/fine_tuning/jobs/preview", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "datasets.1.file")

    shown = worker.http.post("/v1/fine_tuning/jobs/preview", json={**body, "datasets": body["datasets"][:1]})
    preview = shown.raise_for_status().json()
    (dataset,) = preview["datasets"]
    assert (dataset["format"], dataset["rows"], dataset["weight"]) == ("prompt-response", 7, 2)
    assert (dataset["too_long_rows"], dataset["too_long_are"]) == ([8], "refused")
    masked, learnt = preview["samples"][0]["pieces"]
    assert masked["text"].endswith(f"{ROWS[0][0]}<|im_end|>\n<|im_start|>assistant\n")
    assert (learnt["text"], learnt["learnt"], masked["learnt"]) == (f"{ROWS[0][1]}<|im_end|>", True, False)
    tokens = preview["tokens"]
    assert preview["samples"][0]["tokens"] == masked["tokens"] + learnt["tokens"]
    assert tokens["min"] <= tokens["median"] <= tokens["max"] <= tokens["total"] / len(ROWS)
    assert preview["rows"] == 12
    assert preview["steps"] == preview["hyperparameters"]["n_epochs"] * 12 / preview["hyperparameters"]["batch_size"]
    assert preview["estimate"]["parameters"] == 134_515_008
    assert preview["estimate"]["learnt_parameters"] == 4_884_480
    assert preview["estimate"]["memory_bytes"] > 4 * 134_515_008
    assert preview["estimate"]["seconds"] > 0
    assert worker.http.get("/v1/fine_tuning/jobs").json()["data"] == before


def _steps_recorded(platform: Platform, job_id: str) -> list[str]:
    """The steps whose results the durable workflow has, in order."""
    query = "SELECT function_name FROM operation_outputs WHERE workflow_uuid = :job ORDER BY function_id"
    return [name for (name,) in platform.durable("worker", query, job=job_id)]


def test_a_job_survives_kills_and_its_model_serves(worker: Worker, platform: Platform) -> None:
    process = platform.services["worker"]
    hyperparameters = {"n_epochs": 4, "batch_size": 3, "lora_rank": 4}
    created = worker.create(
        training_file=worker.upload(CSV),
        validation_file=worker.upload(CSV),
        model_name="Keeper",
        seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    )
    job_id = created.raise_for_status().json()["id"]

    wait_until(lambda: _checkpoints(worker, job_id), 900, "the first checkpoint")
    process.kill()
    first_run = _checkpoints_on_disk(platform, job_id)
    process.start()
    wait_until(lambda: "train" in _steps_recorded(platform, job_id), 900, "the training ends")
    process.kill()
    adapter = platform.data_dir / "jobs" / job_id / "adapter" / "adapter_model.safetensors"
    trained_at = adapter.stat().st_mtime_ns
    process.start()
    wait_until(lambda: worker.job(job_id)["status"] not in ("queued", "running"), 2400, "the job ends")

    job, messages = worker.job(job_id), worker.messages(job_id)
    assert (job["status"], job["error"]) == ("succeeded", None)
    assert first_run
    assert adapter.stat().st_mtime_ns == trained_at
    assert len(messages) == len(set(messages))
    assert job["fine_tuned_model"] == "keeper:latest"
    assert job["method"]["supervised"]["hyperparameters"]["quantization"] == "none"
    _check_report(worker, platform, job)
    _check_serving(worker, platform)


def _checkpoints(worker: Worker, job_id: str) -> list[dict[str, Any]]:
    page = worker.http.get(f"/v1/fine_tuning/jobs/{job_id}/checkpoints").raise_for_status().json()
    data: list[dict[str, Any]] = page["data"]
    return data


def _checkpoints_on_disk(platform: Platform, job_id: str) -> list[Path]:
    return list((platform.data_dir / "jobs" / job_id / "checkpoints").glob("checkpoint-*/whole"))


def _check_report(worker: Worker, platform: Platform, job: dict[str, Any]) -> None:
    stored = [platform.data_dir / "files" / file_id for file_id in job["result_files"]]
    report = json.loads(stored[0].read_text(encoding="utf-8"))
    assert report["losses"]["eval_loss"] < report["losses"]["base_eval_loss"]
    assert report["losses"]["quantised_eval_loss"] < report["losses"]["base_eval_loss"]
    assert report["file"]["gguf_type"] == "Q4_K_M"
    assert report["sample"]["text"]
    assert "Q4_K_M" in stored[1].read_text(encoding="utf-8")
    assert stored[2].read_text(encoding="utf-8").startswith("step,train_loss,train_accuracy")
    assert "<svg" in stored[3].read_text(encoding="utf-8")
    assert stored[4].read_text(encoding="utf-8").startswith("---\nbase_model")
    assert [check["passed"] for check in report["proof"]["checks"]] == [True, True, True]
    assert set(report["proof"]["losses"]) == {"base", "adapter", "merged", "Q4_K_M"}
    assert all(sample["text"] and sample["base"] and sample["expected"] for sample in report["samples"])
    folder = platform.data_dir / "jobs" / job["id"]
    assert not [*folder.glob("*.gguf"), *folder.glob("checkpoints/*")]
    closing = next(event for event in worker.events(job["id"]) if "New fine-tuned model" in event["message"])
    assert closing["data"]["improvement"] == report["losses"]["improvement"]
    steps = [event["data"]["step"] for event in worker.events(job["id"]) if event["type"] == "metrics"]
    assert steps == sorted(set(steps))
    assert steps[-1] == 8
    last = _checkpoints(worker, job["id"])[0]
    assert last["metrics"]["full_valid_loss"] == report["losses"]["eval_loss"]


def _check_serving(worker: Worker, platform: Platform) -> None:
    client = Client(platform.services["engine"].url)
    try:
        _ask(client)
    finally:
        client.close()  # type: ignore[no-untyped-call]


def _ask(client: Client) -> None:
    names = [model.model for model in client.list().models]
    assert "keeper:latest" in names
    assert not [name for name in names if name and "candidate" in name]
    answer = client.chat("keeper", messages=[{"role": "user", "content": "What is fog?"}], options={"num_predict": 8})
    assert answer.message.content


def test_events_stream_to_their_end(worker: Worker) -> None:
    finished = next(job for job in worker.http.get("/v1/fine_tuning/jobs").json()["data"] if job["finished_at"])
    with worker.http.stream("GET", f"/v1/fine_tuning/jobs/{finished['id']}/events?stream=true") as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    assert [json.loads(line[6:])["message"] for line in lines[:-1]] == worker.messages(finished["id"])


def test_a_running_job_is_cancelled_quickly_and_the_next_one_starts(worker: Worker) -> None:
    file = worker.upload(CSV)
    job_id = worker.create(training_file=file).json()["id"]
    waiting = worker.create(training_file=file).json()["id"]
    wait_until(lambda: "loading the model to train" in worker.messages(job_id), 600, "the training starts")
    assert worker.job(waiting)["status"] == "queued"
    assert worker.http.post(f"/v1/fine_tuning/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    assert worker.http.post(f"/v1/fine_tuning/jobs/{job_id}/cancel").status_code == 409
    wait_until(lambda: worker.job(waiting)["status"] == "running", 600, "the next job starts")
    assert worker.http.post(f"/v1/fine_tuning/jobs/{waiting}/cancel").json()["status"] == "cancelled"
    assert worker.job(job_id)["finished_at"]
