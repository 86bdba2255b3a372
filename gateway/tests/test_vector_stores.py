"""OpenAI's vector stores through the gateway: the official client, every method that it has for them."""

import inspect
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.resources.vector_stores.file_batches import FileBatches
from openai.resources.vector_stores.files import Files
from openai.resources.vector_stores.vector_stores import VectorStores

from tunesmith_rag.testing import pdf
from tunesmith_shared.testing import Platform

FERRY = pdf("The ferry Maren leaves Borkum harbour at 07:40 on weekdays.")
CATS = pdf("Cats eat fish, and sleep most of the day.")
DOGS = pdf("Dogs are walked twice a day by the keeper.")
HELPERS = {"with_raw_response", "with_streaming_response"}


class Recorded:
    """A resource of the client that notes which of its methods were called."""

    def __init__(self, resource: Any, called: set[str]) -> None:
        self._resource = resource
        self._called = called

    def __getattr__(self, name: str) -> Any:
        self._called.add(name)
        return getattr(self._resource, name)


@pytest.fixture
def gpt(platform: Platform) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0, timeout=120) as client:
        yield client


def methods(resource: type) -> set[str]:
    return {name for name, value in vars(resource).items() if inspect.isfunction(value) and not name.startswith("_")}


def test_every_method_of_the_client_works(gpt: openai.OpenAI) -> None:
    called: dict[type, set[str]] = {VectorStores: set(), Files: set(), FileBatches: set()}
    stores: Any = Recorded(gpt.vector_stores, called[VectorStores])
    files: Any = Recorded(gpt.vector_stores.files, called[Files])
    batches: Any = Recorded(gpt.vector_stores.file_batches, called[FileBatches])
    store = stores.create(name="all", metadata={"a": "b"}).id
    assert stores.update(store, name="every").name == "every"
    assert store in [one.id for one in stores.list(limit=100)]
    _use_files(gpt, files, store)
    _use_batches(gpt, batches, store)
    assert stores.retrieve(store).file_counts.completed == 4
    found = stores.search(
        store,
        query=["When does the ferry leave?"],
        filters={"type": "and", "filters": [{"type": "eq", "key": "kind", "value": "boat"}]},
        max_num_results=3,
        ranking_options={"ranker": "auto", "score_threshold": 0.1},
        rewrite_query=False,
    )
    assert [(one.filename, one.attributes["page"]) for one in found.data] == [("ferry.pdf", 1)]
    assert stores.delete(store).deleted
    with pytest.raises(openai.NotFoundError):
        stores.retrieve(store)
    for resource, names in called.items():
        assert methods(resource) - HELPERS <= names, resource


def _use_files(gpt: openai.OpenAI, files: Any, store: str) -> None:
    ferry = gpt.files.create(file=("ferry.pdf", FERRY), purpose="assistants").id
    assert files.create(store, file_id=ferry, attributes={"kind": "ship"}).status in ("in_progress", "completed")
    assert files.poll(ferry, vector_store_id=store, poll_interval_ms=100).status == "completed"
    assert files.create_and_poll(ferry, vector_store_id=store, poll_interval_ms=100).id == ferry
    assert files.update(ferry, vector_store_id=store, attributes={"kind": "boat"}).attributes == {"kind": "boat"}
    assert files.retrieve(ferry, vector_store_id=store).last_error is None
    assert next(part.text for part in files.content(ferry, vector_store_id=store)).startswith("The ferry Maren")
    spare = files.upload(vector_store_id=store, file=("spare.pdf", pdf("A spare page."))).id
    assert (
        files.upload_and_poll(vector_store_id=store, file=("cats.pdf", CATS), poll_interval_ms=100).status
        == "completed"
    )
    assert files.delete(spare, vector_store_id=store).deleted
    first = files.list(store, filter="completed", order="asc", limit=1)
    assert first.has_more
    assert [one.id for one in first.data] == [ferry]


def _use_batches(gpt: openai.OpenAI, batches: Any, store: str) -> None:
    dogs = gpt.files.create(file=("dogs.pdf", DOGS), purpose="assistants").id
    batch = batches.create(store, file_ids=[dogs])
    assert batches.poll(batch.id, vector_store_id=store, poll_interval_ms=100).status == "completed"
    assert batches.retrieve(batch.id, vector_store_id=store).file_counts.completed == 1
    assert [one.id for one in batches.list_files(batch.id, vector_store_id=store)] == [dogs]
    again = batches.create_and_poll(store, file_ids=[dogs], poll_interval_ms=100)
    assert again.file_counts.total == 1
    uploads = [("birds.pdf", pdf("Birds sing at dawn."))]
    sent = batches.upload_and_poll(store, files=uploads, poll_interval_ms=100)
    assert sent.file_counts.completed == 1
    assert batches.cancel(sent.id, vector_store_id=store).status in ("cancelled", "completed")
