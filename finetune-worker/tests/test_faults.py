"""What ends a job and never the worker: too little memory, or a step that takes the worker down each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith_finetune.testing import CSV, Worker, worker_for
from tunesmith_shared.testing import Platform, platform_at, wait_until


@contextmanager
def _worker(folder: Path, tiny_cache: dict[str, str], **environment: str) -> Iterator[tuple[Platform, Worker]]:
    with platform_at(folder, **tiny_cache, **environment) as platform, worker_for(platform) as worker:
        platform.start("worker")
        yield platform, worker


def test_a_training_that_needs_too_much_memory_fails_its_job_alone(tmp_path: Path, tiny_cache: dict[str, str]) -> None:
    with _worker(tmp_path, tiny_cache, TUNESMITH_TRAINING_MEMORY_MB="256") as (_, worker):
        job_id = worker.create(training_file=worker.upload(CSV)).json()["id"]
        wait_until(lambda: worker.job(job_id)["status"] == "failed", 600, "the job fails")
        error = worker.job(job_id)["error"]
        assert error["code"] == "out_of_memory"
        assert "256 MiB" in error["message"]
        assert worker.http.get("/health").status_code == 200


def test_a_job_that_takes_the_worker_down_each_time_is_given_up(tmp_path: Path, tiny_cache: dict[str, str]) -> None:
    with _worker(tmp_path, tiny_cache) as (platform, worker):
        process = platform.services["worker"]
        job_id = worker.create(training_file=worker.upload(CSV)).json()["id"]
        wait_until(lambda: "loading the model to train" in worker.messages(job_id), 600, "the training begins")
        for death in range(1, 4):
            process.kill()
            process.start()
            if death < 3:
                wait_until(lambda: _taken_up(platform, job_id) == death + 2, 600, "it is taken up again")  # noqa: B023
        wait_until(lambda: worker.job(job_id)["status"] == "failed", 600, "the job is given up")
        assert worker.job(job_id)["error"]["code"] == "worker_crashed"
        another = worker.create(training_file=worker.upload(CSV)).json()["id"]
        wait_until(lambda: worker.job(another)["status"] == "running", 600, "the queue moves on")


def _taken_up(platform: Platform, job_id: str) -> int:
    """How often the durable workflow of a job was taken up, as its deaths are counted, and twice for the first."""
    query = "SELECT recovery_attempts FROM workflow_status WHERE workflow_uuid = :job"
    found = platform.durable("worker", query, job=job_id)
    return int(found[0][0]) if found else 0
