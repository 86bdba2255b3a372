"""kill -9 at any moment: every document ends, no chunk is there twice, and no half document is ever found."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunesmith_rag import testing
from tunesmith_rag.testing import Rag, rag_at
from tunesmith_shared.testing import Platform, wait_until

OLD = testing.pdf("The lighthouse of Amrum is red and white.")
PAGES = 40
LONG = testing.pdf(
    *(f"Chapter {n}. The lighthouse number {n} stands on island {n} and is painted green." for n in range(PAGES))
)

Json = dict[str, Any]


@pytest.fixture(scope="module")
def slow(engine_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rag]:
    """A service that embeds in small batches, so that there is a middle to be killed in; running after every test."""
    slowly = {
        "TUNESMITH_EMBEDDER": "ollama",
        "TUNESMITH_EMBEDDING_BATCH": "1",
        "TUNESMITH_EMBEDDING_PLACE_SECONDS": "900",
    }
    with rag_at(tmp_path_factory.mktemp("slow"), engine_platform, **slowly) as rag:
        yield rag


def show(client: httpx.Client, store: str, file_id: str, wait: float = 0) -> Json:
    document: Json = client.get(f"/v1/vector_stores/{store}/files/{file_id}", params={"wait": wait}).json()
    return document


def found(client: httpx.Client, store: str) -> set[str]:
    body = {"query": "Which colour is the lighthouse?", "max_num_results": 50}
    return {hit["file_id"] for hit in client.post(f"/v1/vector_stores/{store}/search", json=body).json()["data"]}


def chunks_on_disk(data_dir: Path, store: str) -> tuple[int, int]:
    """Return how many chunks of a store Chroma and the full-text index have, visible or not."""
    query = (
        "SELECT count(*) FROM embeddings JOIN segments ON segments.id = embeddings.segment_id "
        "JOIN collections ON collections.id = segments.collection WHERE collections.name = ?"
    )
    with closing(sqlite3.connect(data_dir / "chroma" / "chroma.sqlite3")) as connection:
        vectors: int = connection.execute(query, (store,)).fetchone()[0]
    with closing(sqlite3.connect(data_dir / "lexical" / f"{store}.sqlite3")) as connection:
        words: int = connection.execute("SELECT count(*) FROM chunks").fetchone()[0]
    return vectors, words


def test_a_killed_ingestion_goes_on_seen_whole_or_not_at_all_and_once_though_its_bytes_come_again(slow: Rag) -> None:
    service = slow.platform.services["rag"]
    with slow.client() as client:
        store = client.post("/v1/vector_stores", json={}).json()["id"]
        url = f"/v1/vector_stores/{store}/files"
        old = slow.upload(OLD, "lighthouses.pdf")
        client.post(url, json={"file_id": old})
        assert show(client, store, old, wait=60)["status"] == "completed"
        new = slow.upload(LONG, "lighthouses.pdf")
        client.post(url, json={"file_id": new})
        wait_until(lambda: show(client, store, new)["progress"]["chunks_done"] >= 3, 300, "three chunks embedded")
        assert found(client, store) == {old}
        page = client.post(f"/v1/vector_stores/{store}/search", json={"query": "lighthouse"}).json()
        assert page["notes"] == [
            "1 document of this vector store is still being added, or embedded anew, and was not searched."
        ]
    service.kill()
    service.start()
    with slow.client() as client:
        same = slow.upload(LONG, "the same.pdf")
        assert client.post(url, json={"file_id": same}).json()["id"] == new
        seen = show(client, store, new)
        assert seen["status"] == "completed" or found(client, store) in ({old}, {new})
        ended = show(client, store, new, wait=100)
        assert (ended["status"], ended["progress"]["chunks_done"]) == ("completed", PAGES)
        assert found(client, store) == {new}
        assert show(client, store, same)["status"] == "completed"
        assert [entry["id"] for entry in client.get(url).json()["data"]] == [new]
    folder = slow.platform.data_dir
    wait_until(lambda: not list((folder / "ingestion").iterdir()), 300, "the ingestion has cleaned up")
    wait_until(lambda: chunks_on_disk(folder, store) == (PAGES, PAGES), 300, "the old version's chunks are gone")


def test_a_document_that_is_deleted_while_it_is_ingested_leaves_nothing(rag: Rag) -> None:
    many = testing.pdf(*(f"Island {n} has a red lighthouse and a white ferry of the line {n}." for n in range(600)))
    with rag.client() as client:
        store = client.post("/v1/vector_stores", json={}).json()["id"]
        url = f"/v1/vector_stores/{store}/files"
        file_id = rag.upload(many, "lighthouses.pdf")
        client.post(url, json={"file_id": file_id})
        wait_until(lambda: show(client, store, file_id)["progress"]["chunks_done"] >= 2, 60, "a batch is embedded")
        assert show(client, store, file_id)["status"] == "in_progress"
        assert client.delete(f"{url}/{file_id}").status_code == 200
        assert client.get(f"{url}/{file_id}").status_code == 404
        folder = rag.platform.data_dir
        wait_until(lambda: not list((folder / "ingestion").iterdir()), 300, "the ingestion has noticed and cleaned up")
        wait_until(lambda: chunks_on_disk(folder, store) == (0, 0), 60, "no chunk is left")


def test_an_ingestion_that_takes_the_service_down_again_and_again_is_given_up(slow: Rag) -> None:
    service = slow.platform.services["rag"]
    with slow.client() as client:
        # It waits for a model that never comes, so that the ingestion is under way at the kill.
        store = client.post("/v1/vector_stores", json={"embedding_model": "nosuch"}).json()["id"]
        file_id = slow.upload(OLD, "lighthouses.pdf")
        client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file_id})
        wait_until(lambda: show(client, store, file_id)["progress"]["pages_done"] == 1, 300, "the page is read")
        [(workflow,)] = slow.platform.durable("rag", "SELECT max(workflow_uuid) FROM workflow_status")
    taken_up = "SELECT recovery_attempts FROM workflow_status WHERE workflow_uuid = :workflow AND status = 'PENDING'"
    for death in range(1, 4):
        service.kill()
        service.start()
        if death < 3:
            wait_until(
                lambda: slow.platform.durable("rag", taken_up, workflow=workflow) == [(death + 2,)],  # noqa: B023
                300,
                "the ingestion is taken up again",
            )
    with slow.client() as client:
        ended = show(client, store, file_id, wait=60)
    assert ended["status"] == "failed"
    assert "was given up" in ended["last_error"]["message"]
