"""A damaged index is reported and rebuilt from the stored files with one command; a store can change its model."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
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

Json = dict[str, Any]


def garbage_in_database(data_dir: Path) -> None:
    (data_dir / "chroma" / "chroma.sqlite3").write_bytes(b"garbage" * 5000)


def garbage_in_words(data_dir: Path) -> None:
    for path in (data_dir / "lexical").glob("*.sqlite3"):
        path.write_bytes(b"garbage" * 5000)


def lost_database(data_dir: Path) -> None:
    shutil.rmtree(data_dir / "chroma")


def lost_words(data_dir: Path) -> None:
    shutil.rmtree(data_dir / "lexical")


def search(client: httpx.Client, store: str, query: str) -> httpx.Response:
    return client.post(f"/v1/vector_stores/{store}/search", json={"query": query})


def add(rag: Rag, client: httpx.Client, store: str, content: bytes, name: str) -> str:
    file_id = rag.upload(content, name)
    client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file_id}).raise_for_status()
    ended = client.get(f"/v1/vector_stores/{store}/files/{file_id}", params={"wait": 60}).json()
    assert ended["status"] == "completed", ended
    return file_id


@pytest.mark.parametrize("damage", [garbage_in_database, garbage_in_words, lost_database, lost_words])
def test_a_damaged_index_is_reported_and_rebuilt_from_the_files(
    engine_platform: Platform, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with rag_at(tmp_path, engine_platform) as rag:
        service = rag.platform.services["rag"]
        with rag.client() as client:
            store = client.post("/v1/vector_stores", json={"name": "kept"}).json()["id"]
            ferry, notes = add(rag, client, store, FERRY, "ferry.pdf"), add(rag, client, store, NOTES, "cats.md")
        service.kill()
        damage(tmp_path)
        service.start()
        with rag.client() as client:
            health = client.get("/health")
            assert health.status_code == 503
            assert "tunesmith_rag.rebuild" in health.text
            if damage in (garbage_in_database, garbage_in_words):
                refused = search(client, store, "When does the ferry leave?")
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "index_damaged")
            command = [sys.executable, "-m", "tunesmith_rag.rebuild"]
            done = subprocess.run(
                command, env=dict(rag.platform.environment), capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "The index is rebuilt."), done
            assert client.get("/health").status_code == 200
            for question, file_id in (("When does the ferry leave?", ferry), ("What does Whiskers eat?", notes)):
                assert search(client, store, question).json()["data"][0]["file_id"] == file_id


def test_a_store_is_reindexed_with_another_model_and_never_mixed(rag: Rag, client: httpx.Client, store: str) -> None:
    file_id = add(rag, client, store, FERRY, "ferry.pdf")
    url = f"/v1/vector_stores/{store}"
    missing = client.post(f"{url}/reindex", json={"embedding_model": "smollm2:135m"})
    assert missing.status_code >= 500
    assert client.get(url).json()["embedding_model"] == "all-minilm"
    assert search(client, store, "When does the ferry leave?").json()["data"]
    begun = client.post(f"{url}/reindex", json={"embedding_model": "all-minilm:latest"}).json()
    assert (begun["embedding_model"], begun["reindex"]["embedding_model"]) == ("all-minilm", "all-minilm:latest")
    wait_until(lambda: client.get(url).json()["reindex"] is None, 60, "the document is in again")
    shown = client.get(url).json()
    assert (shown["file_counts"]["completed"], shown["embedding_dimension"]) == (1, 384)
    assert shown["embedding_model"] == "all-minilm:latest"
    (found,) = search(client, store, "When does the ferry leave?").json()["data"]
    assert found["file_id"] == file_id


def test_vectors_of_another_model_under_the_same_name_are_reported_and_made_anew_on_request(
    rag: Rag, client: httpx.Client, store: str
) -> None:
    file_id = add(rag, client, store, FERRY, "ferry.pdf")
    url = f"/v1/vector_stores/{store}"
    # As if the store had been filled when another model of the same dimension had the name.
    other = ",".join(str((-1) ** number * 0.05) for number in range(64))
    database = rag.platform.environment["TUNESMITH_DATABASE_URL"].rpartition("sqlite:///")[2]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE vector_stores SET embedding_fingerprint = ? WHERE id = ?", (other, store))
    refused = search(client, store, "When does the ferry leave?")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "embedding_model_changed")
    assert "made by another model" in refused.json()["error"]["message"]
    notes = rag.upload(NOTES, "cats.md")
    client.post(f"{url}/files", json={"file_id": notes}).raise_for_status()
    ended = client.get(f"{url}/files/{notes}", params={"wait": 60}).json()
    assert ended["status"] == "failed"
    assert "made by another model" in ended["last_error"]["message"]
    client.post(f"{url}/reindex", json={}).raise_for_status()
    wait_until(lambda: client.get(url).json()["file_counts"]["completed"] == 2, 60, "both documents are in")
    assert search(client, store, "When does the ferry leave?").json()["data"][0]["file_id"] == file_id
