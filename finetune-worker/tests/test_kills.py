"""kill -9 of the worker's processes at ten moments across a job: each job ends well, and nothing is done twice.

Two platforms, five jobs each, so that two cores are busy.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from ollama import Client

from tunesmith_finetune.testing import CSV, Worker, worker_for
from tunesmith_shared.testing import Platform, platform_at, wait_until

ADAPTER = "Converting the adapter to GGUF"
WORK = ("The training", ADAPTER, "Merging the adapter into the base", "Quantising to Q4_K_M", "The measurement")
MOMENTS = {
    "a step of the training": "tunesmith_finetune.progress:Progress.on_log:before",
    "a checkpoint that is written and not whole": "tunesmith_finetune.checkpoints:mark_whole:before",
    "the end of the training": "tunesmith_finetune.steps.training:_complete_last_checkpoint:before",
    "the converted adapter has no name": "tunesmith_finetune.export:_finish:before",
    "the model is merged": "tunesmith_finetune.export:Exporter.merge:after",
    "the model is quantised": "tunesmith_finetune.export:Exporter.quantise:after",
    "the candidate answers": "tunesmith_finetune.publish:Publisher.ask:after",
    "between blob and manifest": "tunesmith_shared.store.models:ModelStore.write_manifest:before#3",
    "between manifest and row": "tunesmith_shared.store.models:ModelStore.write_manifest:after#3",
    "the report has no rows": "tunesmith_finetune.repository:JobRepository.add_result_files:before",
}


@contextmanager
def killable(folder: Path, tiny_cache: dict[str, str]) -> Iterator[Platform]:
    """A platform whose worker dies at the moment that `kill` in its folder names."""
    folder.mkdir()
    paths = [str(Path(__file__).parent / "kill_points"), os.environ.get("PYTHONPATH", "")]
    files = {"KILL_FILE": str(folder / "kill"), "CALLS_FILE": str(folder / "calls")}
    with platform_at(folder, **tiny_cache, **files, PYTHONPATH=os.pathsep.join(paths)) as platform:
        platform.start("engine", "worker")
        yield platform


@pytest.fixture(scope="module")
def platforms(tmp_path_factory: pytest.TempPathFactory, tiny_cache: dict[str, str]) -> Iterator[list[Platform]]:
    folder = tmp_path_factory.mktemp("kills")
    with ExitStack() as stack:
        yield [stack.enter_context(killable(folder / name, tiny_cache)) for name in ("one", "two")]


def survive(platform: Platform, worker: Worker, name: str, moment: str) -> str:
    """Run a job through a kill at `moment`; gives what went wrong, or nothing."""
    (platform.data_dir / "calls").write_text("")
    (platform.data_dir / "kill").write_text(moment)
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 3, "lora_rank": 4}}}
    created = worker.create(training_file=worker.upload(CSV), model_name=name, method=method, seed=7)
    job_id = created.raise_for_status().json()["id"]
    process = platform.services["worker"].process
    assert process is not None
    wait_until(lambda: process.poll() is not None, 1800, f"the kill: {moment}")
    wrong = half_registered(platform)
    platform.services["worker"].start()
    wait_until(lambda: worker.job(job_id)["finished_at"] is not None, 1800, f"the end of the job after: {moment}")
    job = worker.job(job_id)
    if job["status"] != "succeeded":
        return f"{job['status']}: {job['error']}"
    ended = Counter((platform.data_dir / "calls").read_text().splitlines())
    again = [work for work in WORK if ended[work] != 1 + (work == ADAPTER and "_finish" in moment)]
    if again:
        wrong.append(f"not done once: {again} of {ended}")
    if len(messages := worker.messages(job_id)) != len(set(messages)):
        wrong.append(f"told twice: {messages}")
    return "; ".join(wrong + half_registered(platform, f"{name}:latest"))


def half_registered(platform: Platform, *wanted: str) -> list[str]:
    """What is listed and does not answer, and what of `wanted` is not listed; candidates are nobody's to see."""
    with Client(platform.services["engine"].url) as client:
        listed = [str(model.model) for model in client.list().models if "candidates" not in str(model.model)]
        for name in listed:
            client.generate(name, "Hi", options={"num_predict": 1})
    return [f"{name} is not listed" for name in wanted if name not in listed]


def test_ten_jobs_survive_a_kill_each(platforms: list[Platform]) -> None:
    moments = list(MOMENTS.items())

    def run(index: int) -> dict[str, str]:
        with worker_for(platforms[index]) as worker:
            return {
                when: survive(platforms[index], worker, f"survivor-{number}", moment)
                for number, (when, moment) in enumerate(moments[index::2])
            }

    with ThreadPoolExecutor(2) as pool:
        found = {when: wrong for part in pool.map(run, (0, 1)) for when, wrong in part.items()}
    assert found == dict.fromkeys(MOMENTS, "")
    for platform in platforms:
        with Client(platform.services["engine"].url) as client:
            assert not [model for model in client.list().models if "candidates" in str(model.model)]
