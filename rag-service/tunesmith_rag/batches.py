"""What can be done with file batches: many files added to a store in one request, followed and cancelled together."""

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_rag import jobs
from tunesmith_rag.repository import Documents, FileBatches
from tunesmith_rag.schemas import AttachFiles, public_status
from tunesmith_rag.service import Part, Status, VectorStores, no_file
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import NotFound
from tunesmith_shared.ids import new_id
from tunesmith_shared.tables import Document, FileBatch


@dataclass(frozen=True)
class BatchState:
    """A batch with its documents, oldest first."""

    batch: FileBatch
    documents: Sequence[Document]


class Batches:
    """Everything here is on behalf of an owner; what another owner has is not there."""

    def __init__(self, database: Database, stores: VectorStores) -> None:
        self._database = database
        self._stores = stores

    async def create(self, owner: str, store_id: str, body: AttachFiles) -> BatchState:
        """Add the files to the store; when one of them is not there, none is added."""
        await self._stores.get(owner, store_id)
        async with self._database.session() as session:
            for file in body.each:
                if await Documents(session).file(owner, file.file_id) is None:
                    raise no_file(file.file_id)
        documents = [await self._stores.attach(owner, store_id, file) for file in body.each]
        batch = FileBatch(
            id=new_id("vsfb"),
            owner=owner,
            vector_store_id=store_id,
            document_ids=list(dict.fromkeys(document.id for document in documents)),
            created_at=now(),
        )
        async with self._database.session() as session:
            session.add(batch)
        return await self.get(owner, store_id, batch.id)

    async def get(self, owner: str, store_id: str, batch_id: str) -> BatchState:
        """Return a batch."""
        async with self._database.session() as session:
            batch = await FileBatches(session).get(owner, store_id, batch_id)
            if batch is None:
                raise NotFound(f"The vector store {store_id} has no file batch {batch_id}.", param="batch_id")
            return BatchState(batch, await Documents(session).of_ids(batch.document_ids))

    async def cancel(self, owner: str, store_id: str, batch_id: str) -> BatchState:
        """Stop the ingestions of a batch that are going on; documents that are complete stay."""
        state = await self.get(owner, store_id, batch_id)
        going_on = [document.id for document in state.documents if document.status == "in_progress"]
        if going_on:
            async with self._database.session() as session:
                await Documents(session).cancel(going_on)
                await FileBatches(session).cancel(batch_id)
        state = await self.get(owner, store_id, batch_id)
        for document in state.documents:
            if document.id in going_on:  # one that waits for its model has no ingestion that would clean up
                await jobs.enqueue(self._database, document)
        return state

    async def files(
        self, owner: str, store_id: str, batch_id: str, status: Status | None, part: Part
    ) -> tuple[list[Document], bool]:
        """Return documents of a batch, and whether there are more."""
        state = await self.get(owner, store_id, batch_id)
        documents = [document for document in state.documents if status in (None, public_status(document))]
        if part.descending:
            documents.reverse()
        if part.after is not None:
            last = (await self._stores.document(owner, store_id, part.after)).id
            documents = [one for one in documents if (one.id < last if part.descending else one.id > last)]
        return documents[: part.limit], len(documents) > part.limit
