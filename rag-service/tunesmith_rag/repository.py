"""The SQL of vector stores and their documents. Queries for what a person names have the owner in their WHERE."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from tunesmith_rag.expiry import DAY_SECONDS
from tunesmith_shared.clock import now
from tunesmith_shared.tables import Document, File, FileBatch, VectorStore

ACTIVE = ("in_progress", "completed")
LISTED = ("in_progress", "completed", "failed")
ANEW: dict[str, Any] = {
    "status": "in_progress",
    "pages_done": 0,
    "chunks_done": 0,
    "chunks_total": None,
    "error_code": None,
    "error_message": None,
}
"""What a document's row has when its ingestion begins again, beside the next revision."""

_SEEN = VectorStore.reindexes.is_(None)
"""Not a shadow."""

_index = func.coalesce(VectorStore.index_name, VectorStore.id)

Row = TypeVar("Row", VectorStore, Document)


@dataclass(frozen=True)
class Slice:
    """A part of a list: at most `limit` rows after the row with id `after`, newest first when `descending`."""

    limit: int = 20
    after: str | None = None
    descending: bool = True


class Stores:
    """Vector stores."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, owner: str, store_id: str) -> VectorStore | None:
        """Return the owner's store of this id."""
        query = select(VectorStore).where(VectorStore.owner == owner, VectorStore.id == store_id, _SEEN)
        return (await self._session.scalars(query)).one_or_none()

    async def of_model(self, owner: str, model: str) -> VectorStore | None:
        """Return the owner's store for the documents of `model`."""
        query = select(VectorStore).where(VectorStore.owner == owner, VectorStore.model == model)
        return (await self._session.scalars(query)).one_or_none()

    async def page(self, owner: str, part: Slice) -> Sequence[VectorStore]:
        """Return a part of the owner's stores."""
        query = _sliced(select(VectorStore).where(VectorStore.owner == owner, _SEEN), VectorStore, part)
        return (await self._session.scalars(query)).all()

    async def used(self, store_id: str, time: int) -> None:
        """Note that the store was used at `time`, unless a later use is noted already."""
        earlier = update(VectorStore).where(VectorStore.id == store_id, VectorStore.last_active_at < time)
        await self._session.execute(earlier.values(last_active_at=time))

    async def expired(self) -> Sequence[VectorStore]:
        """Return the stores that have expired and still have documents, whoever owns them."""
        last = VectorStore.last_active_at + VectorStore.expires_after_days * DAY_SECONDS
        filled = select(Document.vector_store_id)
        query = select(VectorStore).where(last <= now(), VectorStore.id.in_(filled))
        return (await self._session.scalars(query)).all()

    async def index_of(self, store_id: str) -> str | None:
        """Return the name of the index that a store's chunks are in; None when the store is gone."""
        return await self._session.scalar(select(_index).where(VectorStore.id == store_id))

    async def using(self, index_name: str) -> str | None:
        """Return the id of the store whose chunks are in this index."""
        return await self._session.scalar(select(VectorStore.id).where(_index == index_name))

    async def parts(self, store_id: str) -> dict[str, str]:
        """Return the ids of a store and of its shadow, as far as they are there, with the names of their indexes."""
        query = select(VectorStore.id, _index).where((VectorStore.id == store_id) | (VectorStore.reindexes == store_id))
        return dict((await self._session.execute(query)).tuples().all())

    async def settle_dimension(self, store_id: str, dimension: int) -> int:
        """Record the dimension of a store's vectors if none is yet; return the recorded one."""
        unset = update(VectorStore).where(VectorStore.id == store_id, VectorStore.embedding_dimension.is_(None))
        await self._session.execute(unset.values(embedding_dimension=dimension))
        recorded = await self._session.scalar(select(VectorStore.embedding_dimension).where(VectorStore.id == store_id))
        return recorded if recorded is not None else dimension

    async def settle_fingerprint(self, store_id: str, fingerprint: str) -> str:
        """Record what made a store's vectors if nothing is recorded yet; return what is."""
        unset = update(VectorStore).where(VectorStore.id == store_id, VectorStore.embedding_fingerprint.is_(None))
        await self._session.execute(unset.values(embedding_fingerprint=fingerprint))
        query = select(VectorStore.embedding_fingerprint).where(VectorStore.id == store_id)
        return (await self._session.scalar(query)) or fingerprint

    async def forget_vectors(self) -> None:
        """Have all stores filled anew by the models that they have, in whatever dimension."""
        await self._session.execute(update(VectorStore).values(embedding_dimension=None, embedding_fingerprint=None))

    async def remove(self, store_id: str) -> None:
        """Remove a store, its shadow, and their documents."""
        parts = list(await self.parts(store_id))
        await self._session.execute(delete(Document).where(Document.vector_store_id.in_(parts)))
        await self._session.execute(delete(FileBatch).where(FileBatch.vector_store_id.in_(parts)))
        await self._session.execute(delete(VectorStore).where(VectorStore.id.in_(parts)))

    async def counts(self, store_ids: Sequence[str]) -> dict[str, tuple[dict[str, int], int]]:
        """Return for each store the number of documents by status, and the bytes they use."""
        query = (
            select(Document.vector_store_id, Document.status, func.count(), func.sum(Document.usage_bytes))
            .where(Document.vector_store_id.in_(store_ids), Document.status.in_(LISTED))
            .group_by(Document.vector_store_id, Document.status)
        )
        found: dict[str, tuple[dict[str, int], int]] = {store_id: ({}, 0) for store_id in store_ids}
        for store_id, status, number, usage in (await self._session.execute(query)).tuples():
            by_status, total = found[store_id]
            found[store_id] = ({**by_status, status: number}, total + int(usage or 0))
        return found


class Documents:
    """Documents: the files in vector stores."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def file(self, owner: str, file_id: str) -> File | None:
        """Return the owner's upload of this id."""
        query = select(File).where(File.owner == owner, File.id == file_id)
        return (await self._session.scalars(query)).one_or_none()

    async def get(self, document_id: str) -> Document | None:
        """Return a document by its own id, for work on behalf of whoever owns it."""
        return await self._session.get(Document, document_id, populate_existing=True)

    async def of_content(self, store_id: str, sha256: str) -> Document | None:
        """Return the document with these bytes that is current or on its way."""
        query = select(Document).where(
            Document.vector_store_id == store_id, Document.sha256 == sha256, Document.status.in_(ACTIVE)
        )
        return (await self._session.scalars(query)).one_or_none()

    async def of_file(self, owner: str, store_id: str, file_id: str) -> Document | None:
        """Return the owner's newest document of this file id, or of another file with the same bytes."""
        own = select(File.sha256).where(File.owner == owner, File.id == file_id).scalar_subquery()
        query = (
            select(Document)
            .where(Document.owner == owner, Document.vector_store_id == store_id, Document.status != "deleting")
            .where((Document.file_id == file_id) | (Document.sha256 == own))
            .order_by(Document.id.desc())
        )
        return (await self._session.scalars(query)).first()

    async def page(self, owner: str, store_id: str, status: str | None, part: Slice) -> Sequence[Document]:
        """Return a part of a store's documents, of one status or of all that are not replaced."""
        query = select(Document).where(Document.owner == owner, Document.vector_store_id == store_id)
        query = query.where(Document.status == status if status else Document.status.in_(LISTED))
        return (await self._session.scalars(_sliced(query, Document, part))).all()

    async def of_status(self, status: str) -> Sequence[Document]:
        """Return every document of one status, whoever owns it."""
        return (await self._session.scalars(select(Document).where(Document.status == status))).all()

    async def sizes(self) -> dict[str, int]:
        """Return for every index that is in use how many chunks its complete documents have."""
        query = select(_index, func.sum(Document.chunks_total)).where(Document.vector_store_id == VectorStore.id)
        rows = (await self._session.execute(query.where(Document.status == "completed").group_by(_index))).tuples()
        return {name: int(total or 0) for name, total in rows}

    async def bring_in_anew(self) -> None:
        """Put documents back in progress: those that are complete, on their way, or failed through no fault of theirs.
        Ingestions under way see it and stop.
        """
        again = update(Document).where(Document.status.in_(ACTIVE) | blameless())
        await self._session.execute(again.values({**ANEW, "revision": Document.revision + 1, "updated_at": now()}))

    async def wanted(self, index_name: str, document_id: str) -> bool:
        """Say whether a document, or the one that it is the twin of, has its chunks in this index, to be kept."""
        names = {document_id, document_id.partition(".")[0]}
        query = select(Document.id).join(VectorStore, VectorStore.id == Document.vector_store_id)
        query = query.where(_index == index_name, Document.id.in_(names), Document.status != "deleting")
        return (await self._session.scalars(query)).first() is not None

    async def hidden(self, store_id: str) -> dict[str, str]:
        """Return the documents that may have chunks in the index and must not be seen: their statuses by id."""
        query = select(Document.id, Document.status).where(
            Document.vector_store_id == store_id, Document.status.in_(("in_progress", "superseded", "deleting"))
        )
        return dict((await self._session.execute(query)).all())

    async def completed(self, document_ids: set[str]) -> dict[str, Document]:
        """Return those of the documents that may be seen."""
        query = select(Document).where(Document.id.in_(document_ids), Document.status == "completed")
        return {document.id: document for document in await self._session.scalars(query)}

    async def of_stores(self, store_ids: Iterable[str]) -> Sequence[str]:
        """Return the ids of all documents of stores, in whatever state."""
        query = select(Document.id).where(Document.vector_store_id.in_(store_ids))
        return (await self._session.scalars(query)).all()

    async def of_ids(self, document_ids: Sequence[str]) -> Sequence[Document]:
        """Return those of the documents that there are, oldest first; not those being deleted."""
        query = select(Document).where(Document.id.in_(document_ids), Document.status != "deleting")
        return (await self._session.scalars(query.order_by(Document.id))).all()

    async def cancel(self, document_ids: Sequence[str]) -> None:
        """Take documents in progress out of the store; their ingestions see it, stop, and remove what they wrote."""
        going_on = update(Document).where(Document.id.in_(document_ids), Document.status == "in_progress")
        await self._session.execute(going_on.values(status="superseded", updated_at=now()))

    async def describe(self, document_id: str, attributes: dict[str, Any]) -> None:
        """Replace the attributes of a document."""
        described = update(Document).where(Document.id == document_id)
        await self._session.execute(described.values(attributes=attributes, updated_at=now()))

    async def of_name(self, document: Document) -> Sequence[Document]:
        """Return the other versions of a document: same store, same name."""
        query = select(Document).where(
            Document.vector_store_id == document.vector_store_id,
            Document.filename == document.filename,
            Document.id != document.id,
        )
        return (await self._session.scalars(query)).all()

    async def superseded(self, document: Document) -> Sequence[Document]:
        """Return the versions of a document, itself included, that are replaced and still have chunks."""
        query = select(Document).where(
            Document.vector_store_id == document.vector_store_id,
            Document.filename == document.filename,
            Document.status == "superseded",
        )
        return (await self._session.scalars(query)).all()

    async def mark_replaced(self, document_id: str) -> None:
        """Note that a superseded document has no chunks any more."""
        superseded = update(Document).where(Document.id == document_id, Document.status == "superseded")
        await self._session.execute(superseded.values(status="replaced", usage_bytes=0, updated_at=now()))

    async def hide(self, document_ids: Sequence[str]) -> None:
        """Make documents invisible at once; what is left of them is then removed."""
        await self._session.execute(update(Document).where(Document.id.in_(document_ids)).values(status="deleting"))

    async def change(self, document_id: str, revision: int, **values: object) -> bool:
        """Set columns of a document whose ingestion of this revision is going on; say whether it still is."""
        going_on = update(Document).where(Document.id == document_id, Document.status == "in_progress")
        going_on = going_on.where(Document.revision == revision)
        result = await self._session.execute(going_on.values(updated_at=now(), **values).returning(Document.id))
        return result.first() is not None

    async def postpone(self, document_id: str, revision: int, facts: dict[str, Any]) -> bool:
        """Leave a document in progress to its next revision, with these facts; say whether this one was going on."""
        going_on = update(Document).where(Document.id == document_id, Document.status == "in_progress")
        going_on = going_on.where(Document.revision == revision).values(revision=revision + 1, facts=facts)
        return (await self._session.execute(going_on.returning(Document.id))).first() is not None

    async def remove(self, document_ids: Sequence[str]) -> None:
        """Remove documents."""
        await self._session.execute(delete(Document).where(Document.id.in_(document_ids)))


class FileBatches:
    """File batches."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, owner: str, store_id: str, batch_id: str) -> FileBatch | None:
        """Return the owner's batch of this id in this store."""
        query = select(FileBatch).where(FileBatch.owner == owner, FileBatch.vector_store_id == store_id)
        return (await self._session.scalars(query.where(FileBatch.id == batch_id))).one_or_none()

    async def cancel(self, batch_id: str) -> None:
        """Note that the batch was cancelled."""
        await self._session.execute(update(FileBatch).where(FileBatch.id == batch_id).values(cancelled_at=now()))


def blameless() -> ColumnElement[bool]:
    """Return the condition on documents that failed through no fault of theirs."""
    return (Document.status == "failed") & (Document.error_code == "server_error")


def _sliced(query: Select[Row], table: type[Row], part: Slice) -> Select[Row]:
    # Ids begin with the time of creation, so they give the order and the place to go on from.
    if part.after is not None:
        query = query.where(table.id < part.after if part.descending else table.id > part.after)
    return query.order_by(table.id.desc() if part.descending else table.id).limit(part.limit)
