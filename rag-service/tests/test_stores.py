"""The rest of OpenAI's vector stores, by the official client: changes, expiry, file batches, attributes, content."""

import asyncio
from collections.abc import Iterator

import httpx
import openai
import pytest
from sqlalchemy import update

from tunesmith_rag import testing
from tunesmith_rag.expiry import DAY_SECONDS
from tunesmith_rag.testing import Rag, rag_at
from tunesmith_shared.auth import OWNER_HEADER
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.settings import async_database_url
from tunesmith_shared.tables import VectorStore
from tunesmith_shared.testing import Platform, free_port, wait_until

FERRY = testing.pdf("The ferry to Borkum leaves at half past nine.", "Dogs travel on the lower deck.")
CATS = testing.pdf("Whiskers eats two herrings every morning.")


def client_of(rag: Rag) -> openai.OpenAI:
    headers = rag.headers("me")
    token = headers["authorization"].removeprefix("Bearer ")
    owner = {OWNER_HEADER: "me"}
    return openai.OpenAI(base_url=f"{rag.url}/v1", api_key=token, default_headers=owner, timeout=60, max_retries=0)


@pytest.fixture
def sdk(rag: Rag) -> Iterator[openai.OpenAI]:
    with client_of(rag) as sdk:
        yield sdk


def added(rag: Rag, sdk: openai.OpenAI, store: str, content: bytes, name: str) -> str:
    file_id = rag.upload(content, name)
    document = sdk.vector_stores.files.create_and_poll(file_id, vector_store_id=store, poll_interval_ms=100)
    assert document.status == "completed"
    return file_id


def not_used_for(rag: Rag, store: str, days: int) -> None:
    """Move the store's last use into the past."""

    async def move() -> None:
        database = Database(async_database_url(rag.platform.environment["TUNESMITH_DATABASE_URL"]))
        async with database.session() as session:
            past = VectorStore.last_active_at - days * DAY_SECONDS
            await session.execute(update(VectorStore).where(VectorStore.id == store).values(last_active_at=past))
        await database.close()

    asyncio.run(move())


def test_only_what_is_named_is_changed(sdk: openai.OpenAI) -> None:
    expiry = {"anchor": "last_active_at", "days": 7}
    made = sdk.vector_stores.create(name="old", metadata={"a": "b"}, expires_after=expiry)  # type: ignore[arg-type]
    assert made.expires_at == (made.last_active_at or 0) + 7 * DAY_SECONDS
    renamed = sdk.vector_stores.update(made.id, name="new")
    assert (renamed.name, renamed.metadata) == ("new", {"a": "b"})
    assert renamed.expires_after is not None
    assert renamed.expires_after.days == 7
    changed = sdk.vector_stores.update(made.id, metadata={"c": "d"}, expires_after=None)
    assert (changed.name, changed.metadata) == ("new", {"c": "d"})
    assert (changed.expires_after, changed.expires_at) == (None, None)
    with pytest.raises(openai.NotFoundError):
        sdk.vector_stores.update("vs-nothing", name="x")


def test_a_store_that_was_not_used_expires_and_leaves_nothing(rag: Rag, sdk: openai.OpenAI) -> None:
    store = sdk.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 3}).id
    kept = sdk.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 5}).id
    file_id = added(rag, sdk, store, FERRY, "ferry.pdf")
    added(rag, sdk, kept, FERRY, "ferry.pdf")
    not_used_for(rag, store, 4)
    not_used_for(rag, kept, 4)
    assert sdk.vector_stores.retrieve(store).status == "expired"
    with pytest.raises(openai.BadRequestError, match="has expired"):
        sdk.vector_stores.search(store, query="ferry")
    with pytest.raises(openai.BadRequestError, match="has expired"):
        sdk.vector_stores.files.create(store, file_id=file_id)
    wait_until(lambda: not sdk.vector_stores.files.list(store).data, 60, "the files are removed")
    assert sdk.vector_stores.search(kept, query="ferry").data

    def used_just_now() -> bool:
        return (sdk.vector_stores.retrieve(kept).last_active_at or 0) > now() - DAY_SECONDS

    wait_until(used_just_now, 30, "the search is noted as a use")
    sdk.vector_stores.update(store, expires_after={"anchor": "last_active_at", "days": 3})
    assert sdk.vector_stores.search(store, query="ferry").data == []
    added(rag, sdk, store, FERRY, "ferry.pdf")
    assert sdk.vector_stores.search(store, query="ferry").data


def test_a_batch_is_followed_to_its_end(rag: Rag, sdk: openai.OpenAI, store: str) -> None:
    good, twin, bad = rag.upload(FERRY, "ferry.pdf"), rag.upload(FERRY, "twin.pdf"), rag.upload(b"no", "bad.pdf")
    batch = sdk.vector_stores.file_batches.create_and_poll(
        store, file_ids=[good, twin, bad], attributes={"kind": "travel"}, poll_interval_ms=100
    )
    assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == ("completed", 1, 1)
    assert batch.file_counts.total == 2  # the same bytes are one document
    listed = sdk.vector_stores.file_batches.list_files(batch.id, vector_store_id=store, limit=1, order="asc")
    assert [file.id for file in listed] == [good, bad]  # from page to page
    failed = sdk.vector_stores.file_batches.list_files(batch.id, vector_store_id=store, filter="failed")
    assert [file.id for file in failed] == [bad]
    assert sdk.vector_stores.files.retrieve(good, vector_store_id=store).attributes == {"kind": "travel"}
    own = [{"file_id": rag.upload(CATS, "cats.pdf"), "attributes": {"kind": "pets"}}]
    pets = sdk.vector_stores.file_batches.create(store, files=own)  # type: ignore[arg-type]
    assert sdk.vector_stores.file_batches.poll(pets.id, vector_store_id=store).status == "completed"


def test_a_batch_with_a_file_that_is_not_there_adds_none(rag: Rag, sdk: openai.OpenAI, store: str) -> None:
    with pytest.raises(openai.NotFoundError, match="file-nothing"):
        sdk.vector_stores.file_batches.create(store, file_ids=[rag.upload(FERRY, "ferry.pdf"), "file-nothing"])
    assert sdk.vector_stores.files.list(store).data == []
    with pytest.raises(openai.BadRequestError, match="at least one file"):
        sdk.vector_stores.file_batches.create(store, file_ids=[])


def test_a_cancelled_batch_stops_and_can_be_added_again(
    engine_platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"  # so that the ingestions are under way when they are cancelled
    folder = tmp_path_factory.mktemp("cancelled")
    settings = {"TUNESMITH_OLLAMA_HOST": nowhere, "TUNESMITH_EMBEDDING_WAIT_SECONDS": "6"}
    with rag_at(folder, engine_platform, **settings) as rag, client_of(rag) as sdk:
        store = sdk.vector_stores.create().id
        files = [rag.upload(FERRY, "ferry.pdf"), rag.upload(CATS, "cats.pdf")]
        batch = sdk.vector_stores.file_batches.create(store, file_ids=files)
        assert batch.status == "in_progress"
        cancelled = sdk.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
        assert (cancelled.status, cancelled.file_counts.cancelled) == ("cancelled", 2)
        assert sdk.vector_stores.files.list(store).data == []
        gone = sdk.vector_stores.files.list
        wait_until(lambda: len(gone(store, filter="cancelled").data) == 2, 60, "the ingestions have cleaned up")
        assert list((folder / "ingestion").glob("*")) == []
        assert sdk.vector_stores.files.retrieve(files[0], vector_store_id=store).status == "cancelled"
        again = sdk.vector_stores.files.create(store, file_id=files[0])
        assert again.status == "in_progress"


def test_new_attributes_are_shown_and_searched_and_old_ones_gone(rag: Rag, sdk: openai.OpenAI, store: str) -> None:
    file_id = rag.upload(FERRY, "ferry.pdf")
    old: dict[str, str | float | bool] = {"year": 2020, "kind": "travel"}
    sdk.vector_stores.files.create_and_poll(file_id, vector_store_id=store, attributes=old, poll_interval_ms=100)
    new: dict[str, str | float | bool] = {"year": 2024, "fresh": True}
    changed = sdk.vector_stores.files.update(file_id, vector_store_id=store, attributes=new)
    assert changed.attributes == new

    def places(key: str, value: str | float | bool, meaning: float) -> int:
        body = {
            "query": "When does the ferry leave, and where do dogs travel?",
            "filters": {"type": "eq", "key": key, "value": value},
            "ranking_options": {"hybrid_search": {"embedding_weight": meaning, "text_weight": 1 - meaning}},
        }
        answer = httpx.post(f"{rag.url}/v1/vector_stores/{store}/search", json=body, headers=rag.headers("me"))
        return len(answer.json()["data"])

    for meaning in (0, 1):
        assert [places("year", 2024, meaning), places("fresh", True, meaning)] == [2, 2]
        assert [places("year", 2020, meaning), places("kind", "travel", meaning)] == [0, 0]
        assert places("filename", "ferry.pdf", meaning) == 2
    with pytest.raises(openai.BadRequestError, match="page"):
        sdk.vector_stores.files.update(file_id, vector_store_id=store, attributes={"page": 1})


def test_the_text_of_a_file_can_be_read(rag: Rag, sdk: openai.OpenAI, store: str) -> None:
    file_id = added(rag, sdk, store, FERRY, "ferry.pdf")
    texts = [part.text for part in sdk.vector_stores.files.content(file_id, vector_store_id=store)]
    assert texts == ["The ferry to Borkum leaves at half past nine.", "Dogs travel on the lower deck."]
    bad = rag.upload(b"no", "bad.pdf")
    sdk.vector_stores.files.create_and_poll(bad, vector_store_id=store, poll_interval_ms=100)
    with pytest.raises(openai.ConflictError, match="is failed"):
        sdk.vector_stores.files.content(bad, vector_store_id=store)


def test_another_owners_batches_and_files_are_not_there(rag: Rag, sdk: openai.OpenAI, store: str) -> None:
    file_id = added(rag, sdk, store, FERRY, "ferry.pdf")
    batch = sdk.vector_stores.file_batches.create(store, file_ids=[file_id])
    url, one = f"/v1/vector_stores/{store}", f"/v1/vector_stores/{store}/file_batches/{batch.id}"
    with rag.client("someone") as other:
        answers = [
            other.post(url, json={"name": "mine"}),
            other.post(f"{url}/files/{file_id}", json={"attributes": {}}),
            other.get(f"{url}/files/{file_id}/content"),
            other.post(f"{url}/file_batches", json={"file_ids": [file_id]}),
            other.get(one),
            other.get(f"{one}/files"),
            other.post(f"{one}/cancel"),
        ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
