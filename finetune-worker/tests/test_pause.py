"""Pausing and resuming, with OpenAI's client through the gateway: over a kill of the worker, and without lost steps."""

from collections.abc import Iterator

import pytest
from openai import ConflictError, OpenAI
from openai.types.fine_tuning import FineTuningJob

from tunesmith_finetune.testing import CSV, ROWS
from tunesmith_shared.testing import Platform, platform_at, wait_until

LONG = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 30, "batch_size": 1, "lora_rank": 4}}}
STEPS = 30 * len(ROWS)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, tiny_cache: dict[str, str]) -> Iterator[Platform]:
    with platform_at(tmp_path_factory.mktemp("pause"), **tiny_cache) as running:
        running.start("worker", "gateway")
        yield running


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def dataset(client: OpenAI) -> str:
    return client.files.create(file=("rows.csv", CSV.encode()), purpose="fine-tune").id


def create(client: OpenAI, dataset: str) -> str:
    return client.fine_tuning.jobs.create(model="smollm2:135m", training_file=dataset, method=LONG).id  # type: ignore[arg-type]


def status(job: FineTuningJob) -> str:
    """The status of a job; the client's types do not know `paused`."""
    return job.status


def steps(client: OpenAI, job_id: str) -> list[int]:
    """The steps of the optimiser that a job has told of, oldest first."""
    events = list(client.fine_tuning.jobs.list_events(job_id, limit=100))
    return [int(event.data["step"]) for event in reversed(events) if event.type == "metrics"]  # type: ignore[index]


def finished(platform: Platform, workflow: str) -> bool:
    query = "SELECT status FROM workflow_status WHERE workflow_uuid = :workflow"
    return platform.durable("worker", query, workflow=workflow) == [("SUCCESS",)]


def test_a_paused_training_goes_on_from_the_step_where_it_was(client: OpenAI, platform: Platform, dataset: str) -> None:
    jobs, worker = client.fine_tuning.jobs, platform.services["worker"]
    job_id = create(client, dataset)
    waiting = create(client, dataset)
    wait_until(lambda: steps(client, job_id), 1800, "the first step")
    assert status(jobs.pause(job_id)) == "paused"
    assert status(jobs.pause(job_id)) == "paused"
    wait_until(lambda: status(jobs.retrieve(waiting)) == "running", 1800, "the next job has its turn")
    assert status(jobs.cancel(waiting)) == "cancelled"
    before = steps(client, job_id)
    saved = max(checkpoint.step_number for checkpoint in jobs.checkpoints.list(job_id))
    assert before[-1] <= saved < STEPS

    worker.kill()
    worker.start()
    assert status(jobs.retrieve(job_id)) == "paused"
    assert status(jobs.resume(job_id)) == "queued"
    wait_until(lambda: "train" in recorded(platform, f"{job_id}-2"), 1800, "the training ends")
    after = steps(client, job_id)
    assert after[: len(before)] == before
    assert after == sorted(set(after))
    assert after[len(before)] > saved
    assert after[-1] == STEPS
    messages = [event.message for event in jobs.list_events(job_id, limit=100)]
    assert {"The job was paused", "The job was resumed"} <= set(messages)
    jobs.cancel(job_id)


def recorded(platform: Platform, workflow: str) -> list[str]:
    """The steps whose results a workflow has, in order."""
    query = "SELECT function_name FROM operation_outputs WHERE workflow_uuid = :workflow ORDER BY function_id"
    return [name for (name,) in platform.durable("worker", query, workflow=workflow)]


def test_a_queued_job_is_paused_and_has_its_turn_when_it_is_resumed(
    client: OpenAI, platform: Platform, dataset: str
) -> None:
    jobs = client.fine_tuning.jobs
    running, queued = create(client, dataset), create(client, dataset)
    assert status(jobs.pause(queued)) == "paused"
    jobs.cancel(running)
    wait_until(lambda: finished(platform, queued), 1800, "its workflow passes by")
    assert recorded(platform, queued) == ["validate"]
    assert status(jobs.retrieve(queued)) == "paused"
    jobs.resume(queued)
    wait_until(lambda: status(jobs.retrieve(queued)) == "running", 1800, "it has its turn")
    jobs.cancel(queued)


def test_what_has_ended_is_neither_paused_nor_resumed(client: OpenAI, dataset: str) -> None:
    jobs = client.fine_tuning.jobs
    job_id = create(client, dataset)
    jobs.cancel(job_id)
    for act in (jobs.pause, jobs.resume):
        with pytest.raises(ConflictError, match="ended already"):
            act(job_id)
