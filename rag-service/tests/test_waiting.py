"""Documents whose embedding model is not there: others go on, and they are brought in when it comes."""

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

FERRY = testing.pdf("The ferry to Borkum leaves at half past nine from pier four.")
NOTES = b"# Cats\n\nWhiskers eats two herrings every morning.\n"
LATE = "late-minilm:latest"

Json = dict[str, Any]


@pytest.fixture
def narrow(engine_platform: Platform, tmp_path: Path) -> Iterator[Rag]:
    """A service with one place for ingestions, which a document without its model leaves at once."""
    with rag_at(tmp_path, engine_platform, TUNESMITH_INGESTIONS="1", TUNESMITH_EMBEDDING_PLACE_SECONDS="0") as rag:
        yield rag


def waiting_document(rag: Rag, client: httpx.Client) -> tuple[str, str]:
    """Add a document to a store of a model that is not there; return its URL and its batch's when it waits."""
    store = client.post("/v1/vector_stores", json={"embedding_model": LATE}).json()["id"]
    file_id = rag.upload(FERRY, "ferry.pdf")
    batch = client.post(f"/v1/vector_stores/{store}/file_batches", json={"file_ids": [file_id]}).json()["id"]
    url = f"/v1/vector_stores/{store}/files/{file_id}"

    def waits() -> bool:
        return bool(client.get(url).json()["facts"].get("waiting_for_model", {}).get("model") == LATE)

    wait_until(waits, 60, "it is read and waits for its model")
    return url, f"/v1/vector_stores/{store}/file_batches/{batch}"


def test_a_document_that_waits_for_its_model_lets_others_go_on_and_is_brought_in_when_the_model_comes(
    narrow: Rag, engine_platform: Platform
) -> None:
    with narrow.client() as client, httpx.Client(base_url=engine_platform.services["engine"].url) as engine:
        waiting, _ = waiting_document(narrow, client)
        other = client.post("/v1/vector_stores", json={}).json()["id"]
        next_one = narrow.upload(NOTES, "cats.md")
        client.post(f"/v1/vector_stores/{other}/files", json={"file_id": next_one}).raise_for_status()
        ended = client.get(f"/v1/vector_stores/{other}/files/{next_one}", params={"wait": 60}).json()
        assert ended["status"] == "completed"
        shown = client.get(waiting).json()
        assert (shown["status"], shown["progress"]["pages_done"]) == ("in_progress", 1)
        engine.post("/api/copy", json={"source": "all-minilm", "destination": LATE}).raise_for_status()
        try:
            wait_until(lambda: client.get(waiting).json()["status"] == "completed", 120, "it is in")
        finally:
            engine.request("DELETE", "/api/delete", json={"model": LATE}).raise_for_status()
        shown = client.get(waiting).json()
        assert (shown["progress"]["chunks_done"], shown["facts"]) == (1, {})


def test_a_deleted_and_a_cancelled_document_that_wait_for_their_model_leave_nothing(narrow: Rag) -> None:
    with narrow.client() as client:
        deleted, _ = waiting_document(narrow, client)
        cancelled, batch = waiting_document(narrow, client)
        assert client.delete(deleted).status_code == 200
        assert client.get(deleted).status_code == 404
        assert client.post(f"{batch}/cancel").json()["status"] == "cancelled"
        assert client.get(cancelled).json()["status"] == "cancelled"
        wait_until(lambda: not list((narrow.platform.data_dir / "ingestion").iterdir()), 60, "it has cleaned up")


def test_a_store_that_is_deleted_while_a_document_in_it_waits_for_its_model_leaves_nothing(narrow: Rag) -> None:
    folder = narrow.platform.data_dir
    with narrow.client() as client:
        waiting, _ = waiting_document(narrow, client)
        store = waiting.split("/")[3]
        assert client.delete(f"/v1/vector_stores/{store}").status_code == 200
        assert client.get(waiting).status_code == 404
        assert list((folder / "ingestion").iterdir()) == []
    database = narrow.platform.environment["TUNESMITH_DATABASE_URL"].rpartition("sqlite:///")[2]
    with (
        closing(sqlite3.connect(database)) as rows,
        closing(sqlite3.connect(folder / "chroma/chroma.sqlite3")) as chroma,
    ):
        for table in ("vector_stores", "documents", "file_batches"):
            assert rows.execute(f"SELECT * FROM {table}").fetchall() == []  # noqa: S608 - the names are above
        assert chroma.execute("SELECT name FROM collections").fetchall() == []
    assert list((folder / "lexical").iterdir()) == []
