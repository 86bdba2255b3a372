"""A store is searched while its documents are embedded anew, whatever happens meanwhile, and nothing old is left."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tunesmith_rag import testing
from tunesmith_rag.testing import Rag, rag_at
from tunesmith_shared.testing import Platform, wait_until

PAGES = 300
LIGHTHOUSES = testing.pdf(*(f"The lighthouse {n} stands on island {n} and is painted green." for n in range(PAGES)))
FERRY = testing.pdf("The ferry to Borkum leaves at half past nine from pier four.")
CATS = b"# Cats\n\nWhiskers eats two herrings every morning.\n"
DOGS = b"# Dogs\n\nRex sleeps under the kitchen table.\n"
OTHER = "other-minilm:latest"

Json = dict[str, Any]


def found(client: httpx.Client, store: str, query: str, **more: Any) -> set[str]:
    body = {"query": query, "max_num_results": 5, **more}
    answer = client.post(f"/v1/vector_stores/{store}/search", json=body).raise_for_status().json()
    return {hit["file_id"] for hit in answer["data"]}


def add(rag: Rag, client: httpx.Client, store: str, content: bytes, name: str) -> str:
    file_id = rag.upload(content, name)
    client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file_id}).raise_for_status()
    ended = client.get(f"/v1/vector_stores/{store}/files/{file_id}", params={"wait": 100}).json()
    assert ended["status"] == "completed", ended
    return file_id


def indexes(data_dir: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Return Chroma's collections with the number of their chunks, and the full-text indexes."""
    query = (
        "SELECT collections.name, count(embeddings.id) FROM collections "
        "JOIN segments ON segments.collection = collections.id "
        "LEFT JOIN embeddings ON embeddings.segment_id = segments.id "
        "WHERE segments.scope = 'METADATA' GROUP BY collections.name"
    )
    with closing(sqlite3.connect(data_dir / "chroma" / "chroma.sqlite3")) as connection:
        collections = connection.execute(query).fetchall()
    return collections, [path.stem for path in (data_dir / "lexical").glob("*.sqlite3")]


@contextmanager
def other_model(engine: httpx.Client) -> Iterator[None]:
    """The second model at the engine, in this block."""
    engine.post("/api/copy", json={"source": "all-minilm", "destination": OTHER}).raise_for_status()
    try:
        yield
    finally:
        engine.request("DELETE", "/api/delete", json={"model": OTHER}).raise_for_status()


def begin(client: httpx.Client, engine: httpx.Client, store: str) -> None:
    """Reindex a store, and take the new model away in the middle."""
    url = f"/v1/vector_stores/{store}"
    with other_model(engine):
        begun = client.post(f"{url}/reindex", json={"embedding_model": OTHER}).raise_for_status().json()
        assert begun["reindex"]["status"] == "in_progress"
        wait_until(lambda: client.get(url).json()["reindex"]["chunks_done"] > 0, 60, "some chunks are embedded")
    shown = client.get(url).json()
    assert shown["reindex"]["file_counts"]["in_progress"] > 0
    assert (shown["status"], shown["embedding_model"]) == ("completed", "all-minilm")


def test_the_old_vectors_serve_until_the_new_ones_are_complete_through_kills_and_changes(
    engine_platform: Platform, tmp_path: Path
) -> None:
    engine_url = engine_platform.services["engine"].url
    with (
        rag_at(tmp_path, engine_platform, TUNESMITH_EMBEDDING_PLACE_SECONDS="0") as rag,
        httpx.Client(base_url=engine_url, timeout=60) as engine,
    ):
        service = rag.platform.services["rag"]
        with rag.client() as client:
            store = client.post("/v1/vector_stores", json={}).json()["id"]
            url = f"/v1/vector_stores/{store}"
            lights = add(rag, client, store, LIGHTHOUSES, "lighthouses.pdf")
            ferry, cats = add(rag, client, store, FERRY, "ferry.pdf"), add(rag, client, store, CATS, "cats.md")
            begin(client, engine, store)
            assert len(indexes(tmp_path)[0]) == 2
            # What is done meanwhile holds in the old vectors at once, and in the new ones afterwards.
            dogs = add(rag, client, store, DOGS, "dogs.md")
            assert client.delete(f"{url}/files/{ferry}").status_code == 200
            client.post(f"{url}/files/{lights}", json={"attributes": {"kind": "tower"}}).raise_for_status()
        service.kill()
        service.start()
        with rag.client() as client:
            assert client.get(url).json()["embedding_model"] == "all-minilm"
            assert lights in found(client, store, "Which lighthouse is green?")
            assert found(client, store, "Where does Rex sleep?", max_num_results=1) == {dogs}
            with other_model(engine):
                wait_until(
                    lambda: client.get(url).json()["embedding_model"] == OTHER, 200, "the new vectors are in use"
                )
                service.kill()  # before anything of the old vectors has been removed
                service.start()
        with rag.client() as client, other_model(engine):
            shown = client.get(url).json()
            assert (shown["file_counts"]["completed"], shown["reindex"]) == (3, None)
            tower = {"type": "eq", "key": "kind", "value": "tower"}
            assert found(client, store, "What is green?", filters=tower) == {lights}
            assert found(client, store, "Where does Rex sleep?", max_num_results=1) == {dogs}
            assert found(client, store, "What does Whiskers eat?", max_num_results=1) == {cats}
            assert ferry not in found(client, store, "When does the ferry leave?", max_num_results=50)
            wait_until(lambda: len(indexes(tmp_path)[0]) == 1, 60, "the old vectors are gone")
            ((name, chunks),), words = indexes(tmp_path)
            assert (chunks, words) == (PAGES + 2, [name])
            assert client.get(f"{url}/files/{lights}/content").json()["data"][7]["text"].startswith("The lighthouse 7")
            assert client.delete(url).status_code == 200
        assert indexes(tmp_path) == ([], [])
        assert not list((tmp_path / "ingestion").iterdir())


def test_a_reindex_whose_model_stays_away_says_so_and_the_old_vectors_serve_on(
    engine_platform: Platform, tmp_path: Path
) -> None:
    brief = {"TUNESMITH_EMBEDDING_PLACE_SECONDS": "0", "TUNESMITH_EMBEDDING_WAIT_SECONDS": "1"}
    engine_url = engine_platform.services["engine"].url
    with (
        rag_at(tmp_path, engine_platform, **brief) as rag,
        httpx.Client(base_url=engine_url, timeout=60) as engine,
        rag.client() as client,
    ):
        store = client.post("/v1/vector_stores", json={}).json()["id"]
        url = f"/v1/vector_stores/{store}"
        lights = add(rag, client, store, LIGHTHOUSES, "lighthouses.pdf")
        begin(client, engine, store)
        wait_until(lambda: client.get(url).json()["reindex"]["status"] == "failed", 100, "it is given up")
        shown = client.get(url).json()
        assert "lighthouses.pdf: The embedding model other-minilm" in shown["reindex"]["last_error"]["message"]
        assert (shown["embedding_model"], shown["file_counts"]["completed"]) == ("all-minilm", 1)
        assert found(client, store, "Which lighthouse is green?") == {lights}
        client.post(f"{url}/reindex", json={}).raise_for_status()
        wait_until(lambda: client.get(url).json()["reindex"] is None, 100, "it is reindexed with the model it has")
        assert found(client, store, "Which lighthouse is green?") == {lights}
        wait_until(lambda: len(indexes(tmp_path)[0]) == 1, 60, "nothing else is left")
