"""When a shadow may take over, and what is kept and removed around that."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tunesmith_rag.repository import Documents, Stores
from tunesmith_rag.shadows import Shadows
from tunesmith_shared.database import Database
from tunesmith_shared.tables import Document, VectorStore

STORE, ORIGINAL = "vs-1", "doc-1"


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A store with one complete document, and a shadow with its twin, complete too."""
    database = Database(database_url)
    async with database.session() as session:
        session.add(
            VectorStore(
                id=STORE, owner="me", name="", embedding_model="old", details={}, created_at=1, last_active_at=1
            )
        )
        await session.flush()
        session.add(document(ORIGINAL, "a", chunks_total=3))
    async with database.session() as session:
        store = await session.get_one(VectorStore, STORE)
        await Shadows(session).follow(await Shadows(session).open(store, "new"))
    await change(database, await twin_of(database), status="completed", chunks_total=5)
    yield database
    await database.close()


def document(name: str, sha256: str, **more: Any) -> Document:
    columns = {"status": "completed", "attributes": {}, "created_at": 1, "updated_at": 1, **more}
    return Document(
        id=name, owner="me", vector_store_id=STORE, file_id=name, filename=f"{name}.pdf", sha256=sha256, **columns
    )


async def change(database: Database, name: str, **columns: Any) -> None:
    async with database.session() as session:
        changed = await session.get_one(Document, name)
        for column, value in columns.items():
            setattr(changed, column, value)


async def twin_of(database: Database) -> str:
    async with database.session() as session:
        shadow = await Shadows(session).of(STORE)
        assert shadow is not None
        return f"{ORIGINAL}.{shadow.id}"


async def taken_over(database: Database) -> bool:
    async with database.session() as session:
        shadow = await Shadows(session).of(STORE)
        assert shadow is not None
        return await Shadows(session).take_over(shadow)


async def test_the_store_gets_index_model_and_what_was_made_of_its_documents_at_once(database: Database) -> None:
    twin = await twin_of(database)
    assert await taken_over(database)
    assert not await taken_over(database)
    async with database.session() as session:
        store, original = await session.get_one(VectorStore, STORE), await session.get_one(Document, ORIGINAL)
        assert (store.index, store.embedding_model, original.chunks_total) == (twin.partition(".")[2], "new", 5)
        assert await session.get(Document, twin) is None
        assert await Stores(session).using(store.index) == STORE
        # What a late clean-up of the twin asks before it removes anything: its chunks are the document's by now.
        assert await Documents(session).wanted(store.index, twin)
        assert not await Documents(session).wanted(STORE, ORIGINAL)
        shadow = await Shadows(session).of(STORE)
        assert shadow is not None
        assert shadow.index == STORE  # for the former index to be removed
        original.status = "deleting"
        await session.flush()
        assert not await Documents(session).wanted(store.index, twin)


@pytest.mark.parametrize(
    ("changed", "columns"),
    [
        ("the twin", {"status": "in_progress"}),
        ("the twin", {"status": "failed"}),
        ("the document", {"status": "deleting"}),
        ("the document", {"status": "in_progress"}),
        ("the document", {"attributes": {"year": 2024}}),
    ],
)
async def test_nothing_is_taken_over_before_all_is_complete_and_alike(
    database: Database, changed: str, columns: dict[str, Any]
) -> None:
    await change(database, ORIGINAL if changed == "the document" else await twin_of(database), **columns)
    assert not await taken_over(database)
    async with database.session() as session:
        assert (await session.get_one(VectorStore, STORE)).index == STORE


async def test_what_is_added_described_and_deleted_meanwhile_is_followed(database: Database) -> None:
    async with database.session() as session:
        session.add(document("doc-2", "b"))
        session.add(document("doc-3", "c", status="in_progress"))
        session.add(document("doc-4", "d", status="failed", error_code="invalid_file"))
    await change(database, ORIGINAL, attributes={"year": 2024})
    async with database.session() as session:
        shadow = await Shadows(session).of(STORE)
        assert shadow is not None
        assert await Shadows(session).follow(shadow) == []
    async with database.session() as session:
        twins = {twin.chunks_name: twin for twin in await Documents(session).of_status("in_progress") if "." in twin.id}
        assert twins.keys() == {ORIGINAL, "doc-2"}
        assert (twins[ORIGINAL].attributes, twins[ORIGINAL].revision) == ({"year": 2024}, 1)
    await change(database, "doc-2", status="deleting")
    async with database.session() as session:
        assert await Shadows(session).follow(shadow) == [f"doc-2.{shadow.id}"]
