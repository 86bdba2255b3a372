"""What can be done with vector stores and documents. Decides; `repository` holds the SQL, `jobs` the workflows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from sqlalchemy.exc import IntegrityError

from tunesmith_rag import jobs, reindex, watch
from tunesmith_rag.expiry import check_usable
from tunesmith_rag.ranking import Results
from tunesmith_rag.repository import Documents, Slice, Stores
from tunesmith_rag.resources import Resources
from tunesmith_rag.retrieve import Retriever
from tunesmith_rag.schemas import ENDED, AttachFile, Attributed, CreateStore, Reindex, SearchBody, UpdateStore
from tunesmith_rag.shadows import Reindexing, Shadows
from tunesmith_shared.clock import now
from tunesmith_shared.errors import Conflict, NotFound
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import Document, VectorStore

_LONGEST_NAP = 1.0
"""Between looks at a document that another process may be ingesting, in seconds."""

Status = Literal["in_progress", "completed", "failed", "cancelled"]
Item = TypeVar("Item")


@dataclass(frozen=True)
class StoreState:
    """A vector store with the number of its documents by status, the bytes they use, and how far they are embedded
    anew, when that is going on or has failed.
    """

    store: VectorStore
    counts: dict[str, int]
    usage_bytes: int
    reindexing: Reindexing | None


@dataclass(frozen=True)
class Part:
    """What a list request asks for, with public ids."""

    limit: int
    after: str | None
    descending: bool


class VectorStores:
    """Everything here is on behalf of an owner; what another owner has is not there."""

    def __init__(self, resources: Resources, retriever: Retriever) -> None:
        self._resources = resources
        self._retriever = retriever
        self._database = resources.database

    async def create(self, owner: str, body: CreateStore) -> StoreState:
        """Create a store and attach the files that `body` names."""
        store = self._new_store(owner, body.name, None, body.embedding_model)
        store.details = body.metadata or {}
        store.expires_after_days = body.expires_after.days if body.expires_after else None
        async with self._database.session() as session:
            for file_id in body.file_ids:
                if await Documents(session).file(owner, file_id) is None:
                    raise no_file(file_id)
            session.add(store)
        for file_id in body.file_ids:
            await self.attach(owner, store.id, AttachFile(file_id=file_id, chunking_strategy=body.chunking_strategy))
        return await self.get(owner, store.id)

    async def ensure_of_model(self, owner: str, model: str) -> StoreState:
        """Return the store for the documents of `model`; make it when there is none."""
        try:
            async with self._database.session() as session:
                if await Stores(session).of_model(owner, model) is None:
                    session.add(self._new_store(owner, model, model, None))
        except IntegrityError:
            pass  # another request made it at the same time
        return await self.of_model(owner, model)

    async def of_model(self, owner: str, model: str) -> StoreState:
        """Return the store for the documents of `model`."""
        async with self._database.session() as session:
            store = await Stores(session).of_model(owner, model)
        if store is None:
            raise NotFound(f"The model {model} has no documents of yours.")
        return (await self._states([store]))[0]

    async def get(self, owner: str, store_id: str) -> StoreState:
        """Return a store."""
        return (await self._states([await self._store(owner, store_id)]))[0]

    async def list_stores(self, owner: str, part: Part) -> tuple[list[StoreState], bool]:
        """Return stores, and whether there are more."""
        async with self._database.session() as session:
            wanted = Slice(part.limit + 1, part.after, part.descending)
            stores = await Stores(session).page(owner, wanted)
        found, more = _cut(stores, part.limit)
        return await self._states(found), more

    async def update(self, owner: str, store_id: str, body: UpdateStore) -> StoreState:
        """Change what `body` names. It counts as a use: a store that has expired can be filled again."""
        async with self._database.session() as session:
            store = await Stores(session).get(owner, store_id)
            if store is None:
                raise _no_store(store_id)
            if body.name is not None:
                store.name = body.name
            if body.metadata is not None:
                store.details = body.metadata
            if "expires_after" in body.model_fields_set:
                store.expires_after_days = body.expires_after.days if body.expires_after else None
            store.last_active_at = now()
        return await self.get(owner, store_id)

    async def delete(self, owner: str, store_id: str) -> None:
        """Delete a store with all its documents."""
        await self._store(owner, store_id)
        await jobs.remove_store(self._database, store_id)

    async def reindex(self, owner: str, store_id: str, body: Reindex) -> StoreState:
        """Embed all documents of a store anew from their files, with another model when `body` names one.

        The store is searched as it is until all are complete. Nothing is changed when that model does not answer.
        """
        store = await self._store(owner, store_id)
        model = body.embedding_model or store.embedding_model
        await self._resources.embedder.embed(model, ["Is it there?"], self._resources.settings.query_wait_seconds)
        await reindex.begin(self._database, store, model)
        await watch.check_documents(self._resources)
        return await self.get(owner, store_id)

    async def rebuild(self) -> int:
        """Bring every document of every owner into an index begun anew; return how many are on their way."""
        await jobs.rebuild()
        await watch.check_documents(self._resources)
        return await self.waiting()

    async def waiting(self) -> int:
        """Return how many documents are on their way, whoever owns them."""
        async with self._database.session() as session:
            return len(await Documents(session).of_status("in_progress"))

    async def attach(self, owner: str, store_id: str, body: AttachFile) -> Document:
        """Add a file to a store and have it ingested.

        Bytes that the store has already, under whatever file id and name, are not added again: the answer is the
        document that has them. A file with the name of another document becomes its new version and replaces it when
        it is complete.
        """
        store = await self._store(owner, store_id)
        check_usable(store)
        async with self._database.session() as session:
            documents = Documents(session)
            file = await documents.file(owner, body.file_id)
            if file is None:
                raise no_file(body.file_id)
            known = await documents.of_content(store.id, file.sha256)
        if known is not None:
            return known
        document = Document(
            id=new_id("doc"),
            owner=owner,
            vector_store_id=store.id,
            file_id=file.id,
            filename=file.filename,
            sha256=file.sha256,
            status="in_progress",
            attributes=body.attributes or {},
            chunking_strategy=body.chunking_strategy.model_dump(),
            created_at=now(),
            updated_at=now(),
        )
        try:
            async with self._database.session() as session:
                await Stores(session).used(store.id, now())
                session.add(document)
        except IntegrityError:  # the same bytes were attached at the same time
            return await self.document(owner, store.id, file.id)
        await jobs.enqueue(self._database, document)
        return await self.document(owner, store.id, file.id)

    async def document(self, owner: str, store_id: str, file_id: str) -> Document:
        """Return the document of a file in a store, by its file id or that of another file with the same bytes."""
        async with self._database.session() as session:
            document = await Documents(session).of_file(owner, store_id, file_id)
        if document is None:
            raise NotFound(f"The vector store {store_id} has no file {file_id}.", param="file_id")
        return document

    async def ended_document(self, owner: str, store_id: str, file_id: str, seconds: float) -> Document:
        """Return the document as soon as its ingestion has ended, or as it is after `seconds`."""
        left = seconds
        while True:
            document = await self.document(owner, store_id, file_id)
            if document.status in ENDED or left <= 0:
                return document
            nap = min(left, _LONGEST_NAP)
            await self._resources.endings.wait(document.id, nap)
            left -= nap

    async def list_documents(
        self, owner: str, store_id: str, status: Status | None, part: Part
    ) -> tuple[list[Document], bool]:
        """Return documents of a store, and whether there are more."""
        await self._store(owner, store_id)
        after = (await self.document(owner, store_id, part.after)).id if part.after else None
        async with self._database.session() as session:
            stored = "replaced" if status == "cancelled" else status
            wanted = Slice(part.limit + 1, after, part.descending)
            documents = await Documents(session).page(owner, store_id, stored, wanted)
        return _cut(documents, part.limit)

    async def detach(self, owner: str, store_id: str, file_id: str) -> None:
        """Delete a document from a store, with its older versions."""
        document = await self.document(owner, store_id, file_id)
        async with self._database.session() as session:
            versions = await Documents(session).of_name(document)
        older = [version.id for version in versions if version.id < document.id]
        await jobs.remove_documents(store_id, [document.id, *older])

    async def describe(self, owner: str, store_id: str, file_id: str, body: Attributed) -> Document:
        """Replace the attributes of a document; raises `Conflict` while it is being ingested."""
        document = await self.document(owner, store_id, file_id)
        if document.status == "in_progress":
            raise Conflict(f"The file {file_id} is still being added. Change its attributes when it is complete.")
        await jobs.describe_document(document.id, body.attributes or {})
        return await self.document(owner, store_id, file_id)

    async def content(self, owner: str, store_id: str, file_id: str) -> list[str]:
        """Return the texts of a document's chunks in order; raises `Conflict` when it is not complete."""
        document = await self.document(owner, store_id, file_id)
        if document.status != "completed":
            raise Conflict(
                f"The file {file_id} is {document.status}, so there is no text of it. Wait, or add it again."
            )
        store = await self._store(owner, store_id)
        return await self._resources.index.lexical.texts(store.index, document.id)

    async def search(self, owner: str, store_id: str, body: SearchBody) -> Results:
        """Find the chunks of a store that answer the questions in `body`; again when it was embedded anew meanwhile."""
        question = body.question(self._resources.settings.rewrite_model)
        while True:
            store = await self._store(owner, store_id)
            check_usable(store)
            self._resources.uses.note(store)
            await self._resources.fingerprints.check(store, self._resources.settings.query_wait_seconds)
            results = await self._retriever.search(store, question)
            if (await self._store(owner, store_id)).index == store.index:
                return results

    def _new_store(self, owner: str, name: str, model: str | None, embedding_model: str | None) -> VectorStore:
        return VectorStore(
            id=new_id("vs"),
            owner=owner,
            name=name,
            model=model,
            embedding_model=embedding_model or self._resources.settings.embedding_model,
            details={},
            created_at=now(),
            last_active_at=now(),
        )

    async def _store(self, owner: str, store_id: str) -> VectorStore:
        async with self._database.session() as session:
            store = await Stores(session).get(owner, store_id)
        if store is None:
            raise _no_store(store_id)
        return store

    async def _states(self, stores: Sequence[VectorStore]) -> list[StoreState]:
        async with self._database.session() as session:
            counts = await Stores(session).counts([store.id for store in stores])
            anew = await Shadows(session).states(stores)
        return [StoreState(store, *counts[store.id], anew.get(store.id)) for store in stores]


def _cut(items: Sequence[Item], limit: int) -> tuple[list[Item], bool]:
    return list(items[:limit]), len(items) > limit


def no_file(file_id: str) -> NotFound:
    """Return the error for a file id that is not one of the owner's uploads."""
    return NotFound(f"There is no file {file_id}. Upload it first.", param="file_id")


def _no_store(store_id: str) -> NotFound:
    return NotFound(f"There is no vector store {store_id}.", param="vector_store_id")
