"""Jobs in the database: an end is final, an event is told once, an owner sees only what is theirs."""

from collections.abc import AsyncIterator

import pytest

from tunesmith_finetune.event_repository import EventRepository
from tunesmith_finetune.model_repository import ModelRepository
from tunesmith_finetune.repository import JobRepository
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.tables import Job


@pytest.fixture
async def jobs(database_url: str) -> AsyncIterator[JobRepository]:
    database = Database(database_url)
    yield JobRepository(database)
    await database.close()


@pytest.fixture
async def events(database_url: str) -> AsyncIterator[EventRepository]:
    database = Database(database_url)
    yield EventRepository(database)
    await database.close()


@pytest.fixture
async def models(database_url: str) -> AsyncIterator[ModelRepository]:
    database = Database(database_url)
    yield ModelRepository(database)
    await database.close()


def make_job(job_id: str, owner: str = "a", name: str = "m:latest") -> Job:
    return Job(
        id=job_id,
        owner=owner,
        model="base",
        model_name=name,
        status="queued",
        training_file="file-1",
        seed=1,
        method={},
        request={},
        created_at=now(),
    )


async def test_an_end_is_final(jobs: JobRepository) -> None:
    await jobs.add(make_job("ftjob-1"))
    assert await jobs.end("ftjob-1", "cancelled")
    assert not await jobs.end("ftjob-1", "succeeded")
    await jobs.change("ftjob-1", status="running")
    assert (await jobs.get("ftjob-1")).status == "cancelled"
    assert list(await jobs.unfinished()) == []


async def test_an_event_is_told_once_for_each_key(jobs: JobRepository, events: EventRepository) -> None:
    await jobs.add(make_job("ftjob-1"))
    for message in ("first", "again"):
        await events.tell("ftjob-1", "key", message)
    await events.measure("ftjob-1", "step-1", "Step 1", {"step": 1})
    newest, oldest = await events.events("ftjob-1", None, 10)
    assert (newest.type, oldest.message) == ("metrics", "first")
    assert [event.id for event in await events.events_since("ftjob-1", oldest.id)] == [newest.id]
    assert [event.id for event in await events.events("ftjob-1", newest.id, 10)] == [oldest.id]


async def test_a_checkpoint_told_again_has_the_newer_metrics(jobs: JobRepository, events: EventRepository) -> None:
    await jobs.add(make_job("ftjob-1"))
    await events.add_checkpoint("ftjob-1", 5, "c", {"step": 5})
    await events.add_checkpoint("ftjob-1", 5, "c", {"step": 5, "full_valid_loss": 1.5})
    (checkpoint,) = await events.checkpoints("ftjob-1", None, 10)
    assert checkpoint.metrics["full_valid_loss"] == 1.5


async def test_owners_see_their_own_jobs_page_by_page(jobs: JobRepository) -> None:
    for number, owner in enumerate("aab", start=1):
        await jobs.add(make_job(f"ftjob-{number}", owner))
    assert [job.id for job in await jobs.page("a", None, 1)] == ["ftjob-2"]
    assert [job.id for job in await jobs.page("a", "ftjob-2", 5)] == ["ftjob-1"]
    assert await jobs.owned("ftjob-3", "a") is None


async def test_a_key_makes_one_job_of_its_owner(jobs: JobRepository) -> None:
    made = []
    for number, owner in enumerate("aab", start=1):
        job = make_job(f"ftjob-{number}", owner)
        job.idempotency_key = "key"
        made.append((await jobs.add_once(job)).id)
    assert made == ["ftjob-1", "ftjob-1", "ftjob-3"]
    found = await jobs.made_with("b", "key")
    assert found is not None
    assert found.id == "ftjob-3"


async def test_a_job_is_set_aside_and_taken_up_again_as_another_run(jobs: JobRepository) -> None:
    await jobs.add(make_job("ftjob-1"))
    assert await jobs.move("ftjob-1", 1, "running")
    assert not await jobs.pause("ftjob-1", "b")
    assert await jobs.pause("ftjob-1", "a")
    assert not await jobs.move("ftjob-1", 1, "running")
    assert not await jobs.is_current("ftjob-1", 1)
    assert await jobs.resume("ftjob-1", "a")
    assert not await jobs.resume("ftjob-1", "a")
    assert not await jobs.move("ftjob-1", 1, "running")
    assert await jobs.is_current("ftjob-1", 2)
    await jobs.end("ftjob-1", "failed", {"code": "storage_full", "message": "Full.", "param": None})
    assert await jobs.resume("ftjob-1", "a")
    job = await jobs.get("ftjob-1")
    assert (job.run, job.status, job.error_code, job.finished_at) == (3, "queued", None, None)


async def test_a_name_belongs_to_its_first_owner(jobs: JobRepository, models: ModelRepository) -> None:
    await jobs.add(make_job("ftjob-1", "a", "mine:latest"))
    assert await models.name_taken("mine:latest", "b")
    assert not await models.name_taken("mine:latest", "a")
    assert await models.own_model("mine:latest", "a", "base", "ftjob-1")
    assert await models.own_model("mine:latest", "a", "base", "ftjob-2")
    assert not await models.own_model("mine:latest", "b", "base", "ftjob-3")
