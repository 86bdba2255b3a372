"""Batches over HTTP with the official client: a gateway process before a scripted model server."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import openai
import orjson
import pytest
import pytest_asyncio
from openai.types import Batch

from tunesmith_gateway.keys import fingerprint
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.ids import new_id
from tunesmith_shared.settings import async_database_url
from tunesmith_shared.tables import ApiKey
from tunesmith_shared.testing import Platform, platform_at

from .scripted import Json, ScriptedOllama, scripted_ollama, until

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
CONCURRENCY = 3


@dataclass
class Over:
    """A gateway over a scripted model server, and a client of it."""

    platform: Platform
    server: ScriptedOllama
    client: openai.AsyncOpenAI

    async def file(self, *lines: Json) -> str:
        content = b"\n".join(map(orjson.dumps, lines))
        return (await self.client.files.create(file=("input.jsonl", content), purpose="batch")).id

    async def create(self, *lines: Json) -> Batch:
        file = await self.file(*lines)
        return await self.client.batches.create(input_file_id=file, endpoint=CHAT, completion_window="24h")

    async def ended(self, batch: Batch, status: str) -> Batch:
        async with asyncio.timeout(60):
            while batch.status not in ("completed", "failed", "cancelled"):
                await asyncio.sleep(0.02)
                batch = await self.client.batches.retrieve(batch.id)
        assert batch.status == status, batch.errors
        return batch

    async def results(self, file_id: str | None) -> list[Json]:
        assert file_id is not None
        lines = (await self.client.files.content(file_id)).text.splitlines()
        return [orjson.loads(line) for line in lines]


def line(index: int, **body: Any) -> Json:
    asked = {"model": "m", "messages": [{"role": "user", "content": f"prompt {index}"}], **body}
    return {"custom_id": f"line-{index}", "method": "POST", "url": CHAT, "body": asked}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Over]:
    async with scripted_ollama() as server:
        environment = {"TUNESMITH_OLLAMA_HOST": server.url, "TUNESMITH_BATCH_CONCURRENCY": str(CONCURRENCY)}
        with platform_at(tmp_path_factory.mktemp("batches"), **environment) as platform:
            await asyncio.to_thread(platform.start, "gateway")
            async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key) as client:
                yield Over(platform, server, client)


@pytest_asyncio.fixture(loop_scope="session")
async def over(running: Over) -> Over:
    running.server.reset()
    return running


async def test_a_batch_is_answered_line_by_line_within_its_concurrency(over: Over) -> None:
    over.server.open.clear()
    batch = await over.create(*(line(index) for index in range(10)))
    assert batch.status == "validating"
    await until(lambda: over.server.running == CONCURRENCY, "as many lines run as are allowed")
    over.server.open.set()
    done = await over.ended(batch, "completed")
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 10, "completed": 10, "failed": 0}
    assert over.server.most == CONCURRENCY
    assert (done.error_file_id, done.errors) == (None, None)
    results = await over.results(done.output_file_id)
    assert [result["custom_id"] for result in results] == [f"line-{index}" for index in range(10)]
    for index, result in enumerate(results):
        assert result["response"]["status_code"] == 200
        assert result["response"]["body"]["choices"][0]["message"]["content"] == f"prompt {index}"
    assert (await over.client.files.retrieve(str(done.output_file_id))).purpose == "batch_output"


async def test_lines_that_are_refused_go_to_the_error_file_and_the_rest_is_answered(over: Over) -> None:
    bad = line(1, session_id="no/name")
    done = await over.ended(await over.create(line(0), bad, line(2, n=99), line(3)), "completed")
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (2, 2)
    errors = await over.results(done.error_file_id)
    assert [(e["custom_id"], e["response"]["status_code"]) for e in errors] == [("line-1", 400), ("line-2", 400)]
    assert errors[1]["response"]["body"]["error"]["param"] == "n"


async def test_bodies_take_choices_and_self_consistency(over: Over) -> None:
    over.server.reply = lambda body: "odd" if body["seed"] == 1 else "the same words"
    consistent = line(0, seed=1, self_consistency={"samples": 3})
    done = await over.ended(await over.create(consistent, line(1, n=2, seed=5)), "completed")
    first, second = (result["response"]["body"] for result in await over.results(done.output_file_id))
    assert first["choices"][0]["message"]["content"] == "the same words"
    assert len(first["tunesmith"]["candidates"]) == 3
    assert [choice["index"] for choice in second["choices"]] == [0, 1]
    assert sorted(body["seed"] for body in over.server.bodies) == [1, 2, 3, 5, 6]


async def test_embeddings_run_too(over: Over) -> None:
    asked = {"custom_id": "e", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
    file = await over.file(asked)
    batch = await over.client.batches.create(
        input_file_id=file, endpoint="/v1/embeddings", completion_window="24h", metadata={"for": "tests"}
    )
    done = await over.ended(batch, "completed")
    assert done.metadata == {"for": "tests"}
    assert (await over.results(done.output_file_id))[0]["response"]["body"]["data"][0]["embedding"] == [1.0]


async def test_mistakes_are_told_with_their_lines_before_anything_runs(over: Over) -> None:
    failed = await over.ended(await over.create(line(0), line(0), line(2, stream=True)), "failed")
    assert failed.errors is not None
    told = [(error.line, error.code) for error in failed.errors.data or []]
    assert told == [(2, "duplicate_custom_id"), (3, "invalid_request")]
    unknown = await over.ended(await over.create(line(0), line(1, model="nosuch")), "failed")
    assert unknown.errors is not None
    assert [(error.line, error.code) for error in unknown.errors.data or []] == [(2, "model_not_found")]
    assert over.server.bodies == []


async def test_a_file_of_another_purpose_or_none_is_refused(over: Over) -> None:
    other = await over.client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="purpose 'batch'"):
        await over.client.batches.create(input_file_id=other.id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        await over.client.batches.create(input_file_id="file-nosuch", endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        await over.client.batches.retrieve("batch-nosuch")


async def test_cancelling_stops_the_lines_in_work_and_keeps_the_finished_ones(over: Over) -> None:
    over.server.hold = lambda body: not body["messages"][-1]["content"].endswith((" 0", " 1"))
    over.server.open.clear()
    batch = await over.create(*(line(index) for index in range(8)))
    await until(lambda: over.server.running == CONCURRENCY, "the first lines are done and the next are held")
    assert (await over.client.batches.cancel(batch.id)).status in ("cancelling", "cancelled")
    cancelled = await over.ended(batch, "cancelled")
    await until(lambda: over.server.gone == CONCURRENCY, "the lines in work were stopped")
    results = await over.results(cancelled.output_file_id)
    assert [result["custom_id"] for result in results] == ["line-0", "line-1"]
    assert len(over.server.bodies) == 2 + CONCURRENCY
    with pytest.raises(openai.ConflictError, match="cancelled already"):
        await over.client.batches.cancel(batch.id)


async def test_batches_are_listed_newest_first_in_pages(over: Over) -> None:
    made = [(await over.ended(await over.create(line(0)), "completed")).id for _ in range(3)]
    page = await over.client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == [made[2], made[1]]
    assert page.has_more
    assert (await over.client.batches.list(limit=1, after=made[1])).data[0].id == made[0]


async def test_a_model_server_that_is_busy_is_waited_for(over: Over) -> None:
    over.server.status = 503
    batch = await over.create(line(0))
    await until(lambda: over.server.bodies, "the line was asked once")
    over.server.status = 200
    done = await over.ended(batch, "completed")
    assert (await over.results(done.output_file_id))[0]["response"]["status_code"] == 200


async def test_a_killed_gateway_goes_on_without_asking_finished_lines_again(over: Over) -> None:
    count, gateway = 30, over.platform.services["gateway"]
    over.server.hold = lambda body: int(body["messages"][-1]["content"].split()[-1]) >= 12
    over.server.open.clear()
    batch = await over.create(*(line(index) for index in range(count)))
    await until(lambda: over.server.running == CONCURRENCY, "the lines from 12 on are held")
    await asyncio.to_thread(gateway.kill)
    await until(lambda: over.server.running == 0, "the killed gateway's connections are gone")
    over.server.open.set()
    await asyncio.to_thread(gateway.start)
    done = await over.ended(batch, "completed")
    results = await over.results(done.output_file_id)
    assert [result["custom_id"] for result in results] == [f"line-{index}" for index in range(count)]
    asked = Counter(body["messages"][-1]["content"] for body in over.server.bodies)
    again = {prompt for prompt, times in asked.items() if times > 1}
    assert again == {f"prompt {index}" for index in range(12, 12 + CONCURRENCY)}
    assert len(asked) == count


async def test_a_stopped_gateway_leaves_its_batches_to_be_gone_on_with(over: Over) -> None:
    gateway = over.platform.services["gateway"]
    over.server.open.clear()
    batch = await over.create(*(line(index) for index in range(5)))
    await until(lambda: over.server.running == CONCURRENCY, "lines run")
    await asyncio.to_thread(gateway.stop)
    over.server.open.set()
    await asyncio.to_thread(gateway.start)
    await over.ended(batch, "completed")


async def test_another_owner_sees_no_batch(over: Over, platform_key_of_another_owner: str) -> None:
    batch = await over.create(line(0))
    headers = {"authorization": f"Bearer {platform_key_of_another_owner}"}
    async with httpx.AsyncClient(base_url=over.platform.url, headers=headers) as other:
        assert (await other.get(f"/v1/batches/{batch.id}")).status_code == 404
        assert (await other.post(f"/v1/batches/{batch.id}/cancel")).status_code == 404
        assert (await other.get("/v1/batches")).json()["data"] == []
        body = {"input_file_id": batch.input_file_id, "endpoint": CHAT, "completion_window": "24h"}
        assert (await other.post("/v1/batches", json=body)).status_code == 404


@pytest_asyncio.fixture(loop_scope="session")
async def platform_key_of_another_owner(over: Over) -> AsyncIterator[str]:
    database = Database(async_database_url(over.platform.environment["TUNESMITH_DATABASE_URL"]))
    secret = f"ts-{new_id('mallory')}"
    async with database.session() as session:
        row = ApiKey(id=new_id("key"), owner="mallory", name="another owner's", prefix=secret[:7], created_at=now())
        row.secret_sha256, row.scopes = fingerprint(secret), ["chat"]
        session.add(row)
    yield secret
    await database.close()


async def test_prompts_with_five_samples_each_on_the_real_engine(platform: Platform) -> None:
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key) as client:
        real = Over(platform, ScriptedOllama(), client)
        asked = {"model": "smollm2:135m", "max_tokens": 6, "seed": 1, "self_consistency": {"samples": 5}}
        done = await real.ended(await real.create(*(line(index, **asked) for index in range(4))), "completed")
        for result in await real.results(done.output_file_id):
            body = result["response"]["body"]
            best = max(body["tunesmith"]["candidates"], key=lambda candidate: candidate["score"])
            assert len(body["tunesmith"]["candidates"]) == 5
            assert body["choices"][0]["message"]["content"] == best["content"]


async def test_lines_count_against_their_keys_limits_and_wait_for_them(over: Over) -> None:
    body = {"name": "one at a time", "limits": {"concurrency": 1}}
    key = (await over.client.post("/api_keys", body=body, cast_to=httpx.Response)).json()
    over.server.open.clear()
    async with openai.AsyncOpenAI(base_url=over.client.base_url, api_key=key["secret"], max_retries=0) as limited:
        file = await over.file(*(line(index) for index in range(3)))
        batch = await limited.batches.create(input_file_id=file, endpoint=CHAT, completion_window="24h")
        await until(lambda: over.server.running == 1, "a line runs")
        with pytest.raises(openai.RateLimitError):
            await limited.chat.completions.create(model="m", messages=[{"role": "user", "content": "me too"}])
        others = await over.create(line(0), line(1))
        await until(lambda: over.server.running == CONCURRENCY, "another key's lines run beside it")
        over.server.open.set()
        done = await over.ended(batch, "completed")
    assert done.request_counts is not None
    assert (done.request_counts.completed, done.request_counts.failed) == (3, 0)
    await over.ended(others, "completed")
