"""Creating requests that are sent again, over a real gateway and a worker that counts what it is asked to make."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import openai
import pytest
import pytest_asyncio
from aiohttp import web
from sqlalchemy import update

from tunesmith_gateway.idempotency import IdempotencyService, KeptAnswer, RequestDigest
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.tables import IdempotentRequest
from tunesmith_shared.testing import Platform, platform_at

JOB = {"model": "m", "training_file": "file-x"}


@dataclass
class CountingWorker:
    """Makes jobs when `release` is set; `fails` is the status that it answers with instead."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    jobs: int = 0
    fails: int | None = None
    keys: list[str] = field(default_factory=list)

    async def create(self, request: web.Request) -> web.Response:
        await request.read()
        self.keys.append(request.headers["idempotency-key"])
        self.asked.set()
        await self.release.wait()
        if self.fails is not None:
            return web.json_response({"error": {"message": "no"}}, status=self.fails)
        self.jobs += 1
        return web.json_response({"id": f"ftjob-{self.jobs}"})


@pytest_asyncio.fixture(scope="module")
async def worker_server() -> AsyncIterator[tuple[CountingWorker, str]]:
    worker, app = CountingWorker(), web.Application()
    app.router.add_post("/v1/fine_tuning/jobs", worker.create)
    app.router.add_post("/v1/vector_stores", worker.create)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield worker, site.name
    await runner.cleanup()


@pytest.fixture
def worker(worker_server: tuple[CountingWorker, str]) -> CountingWorker:
    worker = worker_server[0]
    worker.release, worker.asked, worker.jobs, worker.fails = asyncio.Event(), asyncio.Event(), 0, None
    worker.keys.clear()
    worker.release.set()
    return worker


@pytest_asyncio.fixture(scope="module")
async def platform(
    worker_server: tuple[CountingWorker, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    urls = {"TUNESMITH_WORKER_URL": worker_server[1], "TUNESMITH_RAG_URL": worker_server[1]}
    with platform_at(tmp_path_factory.mktemp("idempotency"), **urls) as platform:
        await asyncio.to_thread(platform.start, "gateway")
        yield platform


@pytest_asyncio.fixture
async def client(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {platform.key}"}
    async with httpx.AsyncClient(base_url=platform.url, headers=headers, timeout=30) as client:
        yield client


JOBS = "/v1/fine_tuning/jobs"


async def create(
    client: httpx.AsyncClient, key: str, body: object = JOB, path: str = JOBS, **headers: str
) -> httpx.Response:
    return await client.post(path, json=body, headers={"idempotency-key": key, **headers})


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_a_job_sent_twice_is_made_once(client: httpx.AsyncClient, worker: CountingWorker) -> None:
    first, again = await create(client, "twice"), await create(client, "twice")
    assert (first.json(), worker.jobs) == ({"id": "ftjob-1"}, 1)
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (200, first.json(), "true")
    assert (await create(client, "another")).json() == {"id": "ftjob-2"}


async def test_the_same_key_with_another_body_is_refused(client: httpx.AsyncClient, worker: CountingWorker) -> None:
    await create(client, "reused")
    refused = await create(client, "reused", {**JOB, "seed": 2})
    assert code(refused) == (409, "idempotency_key_reused")
    assert worker.jobs == 1


async def test_a_duplicate_at_the_same_time_is_told_to_wait(client: httpx.AsyncClient, worker: CountingWorker) -> None:
    worker.release.clear()
    first = asyncio.create_task(create(client, "at-once"))
    await asyncio.wait_for(worker.asked.wait(), 10)
    duplicate = await create(client, "at-once")
    assert code(duplicate) == (409, "idempotency_in_progress")
    assert int(duplicate.headers["retry-after"]) >= 1
    worker.release.set()
    assert (await first).json() == (await create(client, "at-once")).json()
    assert worker.jobs == 1


async def test_an_answer_that_nobody_waited_for_is_given_to_the_retry(
    client: httpx.AsyncClient, worker: CountingWorker
) -> None:
    worker.release.clear()
    first = asyncio.create_task(create(client, "lost"))
    await asyncio.wait_for(worker.asked.wait(), 10)
    first.cancel()
    worker.release.set()
    async with asyncio.timeout(10):
        while (answer := await create(client, "lost")).status_code == 409:
            pass
    assert (answer.json(), worker.jobs) == ({"id": "ftjob-1"}, 1)


async def test_a_refused_request_may_be_corrected_under_its_key(
    client: httpx.AsyncClient, worker: CountingWorker
) -> None:
    worker.fails = 400
    assert (await create(client, "corrected")).status_code == 400
    worker.fails = None
    assert (await create(client, "corrected", {**JOB, "seed": 3})).json() == {"id": "ftjob-1"}


async def test_what_broke_off_is_not_made_again(client: httpx.AsyncClient, worker: CountingWorker) -> None:
    worker.fails = 502
    assert (await create(client, "broken", path="/v1/vector_stores")).status_code == 502
    worker.fails = None
    assert code(await create(client, "broken", path="/v1/vector_stores")) == (409, "idempotency_interrupted")
    assert worker.jobs == 0


async def test_a_job_that_broke_off_is_left_to_the_worker_which_knows_the_key(
    client: httpx.AsyncClient, worker: CountingWorker
) -> None:
    worker.fails = 502
    assert (await create(client, "again")).status_code == 502
    worker.fails = None
    made, replayed = await create(client, "again"), await create(client, "again")
    assert (made.json(), replayed.json(), worker.keys) == ({"id": "ftjob-1"}, {"id": "ftjob-1"}, ["again", "again"])


async def test_one_owners_keys_are_not_anothers(client: httpx.AsyncClient, worker: CountingWorker) -> None:
    made = await client.post("/v1/api_keys", json={"name": "bob", "owner": "bob"})
    bob = f"Bearer {made.json()['secret']}"
    mine, his = await create(client, "shared"), await create(client, "shared", authorization=bob)
    assert [mine.json()["id"], his.json()["id"]] == ["ftjob-1", "ftjob-2"]


async def test_an_upload_with_another_boundary_is_the_same_upload(platform: Platform) -> None:
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key) as gpt:
        headers = {"Idempotency-Key": "upload"}
        rows = b"prompt,response\n" + b"a,b\n" * 300_000
        made = [
            await gpt.files.create(file=("rows.csv", rows), purpose="fine-tune", extra_headers=headers)
            for _ in range(2)
        ]
        assert made[0].id == made[1].id
        assert [file.id async for file in gpt.files.list()] == [made[0].id]
        with pytest.raises(openai.ConflictError, match="another request"):
            await gpt.with_options(max_retries=0).files.create(
                file=("rows.csv", rows + b"c,d\n"), purpose="fine-tune", extra_headers=headers
            )


async def test_keys_survive_a_killed_gateway(
    platform: Platform, client: httpx.AsyncClient, worker: CountingWorker
) -> None:
    await create(client, "kept")
    worker.release.clear()
    worker.asked.clear()
    cut = asyncio.create_task(create(client, "cut"))
    await asyncio.wait_for(worker.asked.wait(), 10)
    gateway = platform.services["gateway"]
    await asyncio.to_thread(gateway.kill)
    with pytest.raises(httpx.TransportError):
        await cut
    worker.release.set()
    await asyncio.to_thread(gateway.start)
    assert (await create(client, "kept")).json() == {"id": "ftjob-1"}
    assert (await create(client, "cut")).status_code == 200
    assert worker.keys[-2:] == ["cut", "cut"]


def test_a_boundary_counts_as_nothing_however_the_body_is_cut() -> None:
    digests = set()
    for boundary in ("aaaa", "aaab-0123456789"):
        body = f"--{boundary}\r\nx aaa\r\n--{boundary}--\r\n".encode()
        for size in (1, 3, 1000):
            digest = RequestDigest("POST", "/v1/files", f'multipart/form-data; boundary="{boundary}"')
            for at in range(0, len(body), size):
                digest.add(body[at : at + size])
            digests.add(digest.result())
    assert len(digests) == 1


async def test_a_key_is_free_again_after_a_day(database_url: str) -> None:
    database = Database(database_url)
    store, answer = IdempotencyService(database, "1"), KeptAnswer("digest", 200, "application/json", "{}")
    for age, kept in ((24 * 3600 - 60, answer), (24 * 3600 + 1, None)):
        await store.take("alice", "daily")
        await store.keep("alice", "daily", answer)
        async with database.session() as session:
            await session.execute(update(IdempotentRequest).values(created_at=now() - age))
        assert await store.take("alice", "daily") == kept
    await database.close()


async def test_the_secret_of_a_key_is_in_the_first_answer_alone(client: httpx.AsyncClient) -> None:
    made = [
        await client.post("/v1/api_keys", json={"name": "once"}, headers={"idempotency-key": "key"}) for _ in range(2)
    ]
    assert made[0].json()["id"] == made[1].json()["id"]
    assert made[0].json()["secret"].startswith("ts-")
    assert made[1].json()["secret"] == ""
