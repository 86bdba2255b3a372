"""A full disk at every step: an error that says so, nothing half written, the old model answering, a retry that works.

The disks are small ones in memory, which root may mount; where that cannot be had the tests are skipped and say so.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ollama import Client
from openai import APIStatusError, OpenAI

from tunesmith_finetune.testing import CSV, Worker, worker_for
from tunesmith_shared.testing import Platform, platform_at, wait_until

JOBS = "tunesmith_finetune"
STEPS = {
    "train": ("jobs", f"{JOBS}.checkpoints:mark_whole:after", "No space left on device"),
    "merge": ("jobs", f"{JOBS}.export:Exporter.merge:before", "MiB are needed in"),
    "quantise": ("jobs", f"{JOBS}.export:Exporter.quantise:before", "MiB are needed in"),
    "publish": ("models", f"{JOBS}.model_repository:ModelRepository.own_model:after", "the model store needs"),
}


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A disk of its own at `folder`. Skips the test where none can be mounted."""
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mount = [shutil.which("mount") or "/bin/mount", *options]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([shutil.which("umount") or "/bin/umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, tiny_cache: dict[str, str]) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("full")
    paths = [str(Path(__file__).parent / "kill_points"), os.environ.get("PYTHONPATH", "")]
    hooks = {"KILL_FILE": str(folder / "moment"), "CALLS_FILE": os.devnull, "PYTHONPATH": os.pathsep.join(paths)}
    with ExitStack() as stack:
        for name, megabytes in (("jobs", 160), ("models", 64), ("files", 8)):
            stack.enter_context(disk(folder / name, megabytes))
        running = stack.enter_context(platform_at(folder, **tiny_cache, **hooks))
        running.start("engine", "worker", "gateway")
        yield running


@pytest.fixture(scope="module")
def worker(platform: Platform) -> Iterator[Worker]:
    with worker_for(platform) as worker:
        yield worker


def run(worker: Worker, training_file: str) -> str:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 3, "lora_rank": 4}}}
    return str(worker.create(training_file=training_file, model_name="keeper", method=method, seed=7).json()["id"])


def ended(worker: Worker, job_id: str) -> dict[str, Any]:
    wait_until(lambda: worker.job(job_id)["finished_at"], 1800, "the job ends")
    return worker.job(job_id)


def digest_of_what_answers(platform: Platform) -> str | None:
    """Let the model answer; gives which one it is."""
    with Client(platform.services["engine"].url) as client:
        client.generate("keeper", "Hi", options={"num_predict": 2})
        digests: dict[str | None, str | None] = {model.model: model.digest for model in client.list().models}
    return digests["keeper:latest"]


def test_each_step_says_what_it_needs_and_goes_on_when_it_has_it(platform: Platform, worker: Worker) -> None:
    folder, file = platform.data_dir, worker.upload(CSV)
    assert ended(worker, run(worker, file))["status"] == "succeeded"
    old = digest_of_what_answers(platform)
    wrong: list[str] = []
    job_id = ""
    for step, (name, moment, reason) in STEPS.items():
        (folder / "fill").write_text(str(folder / name))
        (folder / "moment").write_text(moment)
        if job_id:
            worker.http.post(f"/v1/fine_tuning/jobs/{job_id}/resume").raise_for_status()
        job_id = job_id or run(worker, file)
        error = ended(worker, job_id)["error"]
        (folder / name / "ballast").unlink()
        if error is None or error["code"] != "storage_full" or f"step '{step}'" not in error["message"]:
            wrong.append(f"{step}: {error}")
        elif reason not in error["message"]:
            wrong.append(f"{step} does not say what it needs: {error['message']}")
        halves = [*(folder / "jobs" / job_id).glob("**/*.part"), *(folder / "models" / ".incoming").iterdir()]
        wrong += [f"{step} left {half}" for half in halves]
        if digest_of_what_answers(platform) != old:
            wrong.append(f"{step} took the old model away")
    assert wrong == []
    worker.http.post(f"/v1/fine_tuning/jobs/{job_id}/resume").raise_for_status()
    assert ended(worker, job_id)["status"] == "succeeded"
    assert digest_of_what_answers(platform) is not None


def test_an_upload_that_does_not_fit_leaves_nothing(platform: Platform) -> None:
    files = platform.data_dir / "files"
    there = sorted(files.iterdir())
    with OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        with pytest.raises(APIStatusError, match="disk is full") as refused:
            client.files.create(file=("rows.csv", b"a" * (12 * 2**20)), purpose="fine-tune")
        assert refused.value.status_code == 507
        assert sorted(files.iterdir()) == there
        assert client.files.create(file=("rows.csv", CSV.encode()), purpose="fine-tune").status
