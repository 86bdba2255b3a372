"""Start workflows, and wait for those that are short."""

from typing import Any

from dbos import DBOS, SetWorkflowID

from tunesmith_rag import anew, describe, remove
from tunesmith_rag import ingest as ingestion
from tunesmith_rag.repository import Stores
from tunesmith_shared.database import Database
from tunesmith_shared.tables import Document

_POLL_SECONDS = 0.2


async def open_queue(ingestions: int) -> None:
    """Take ingestions from the queue, `ingestions` at a time. Call once, after DBOS is launched."""
    await DBOS.register_queue_async(
        ingestion.QUEUE,
        worker_concurrency=ingestions,
        polling_interval_sec=_POLL_SECONDS,
        on_conflict="always_update",
    )


async def enqueue(database: Database, document: Document) -> None:
    """Have the document ingested; doing it again changes nothing."""
    async with database.session() as session:
        index_name = await Stores(session).index_of(document.vector_store_id)
    with SetWorkflowID(ingestion.workflow_id(document)):
        await DBOS.enqueue_workflow_async(
            ingestion.QUEUE,
            ingestion.ingest,
            index_name or document.vector_store_id,
            document.id,
            document.revision,
        )


async def remove_documents(store_id: str, document_ids: list[str]) -> None:
    """Remove documents and wait until nothing of them is left."""
    handle = await DBOS.start_workflow_async(remove.remove_documents, store_id, document_ids)
    await handle.get_result()


async def describe_document(document_id: str, attributes: dict[str, Any]) -> None:
    """Replace a document's attributes and wait until searches filter on the new ones."""
    handle = await DBOS.start_workflow_async(describe.describe_document, document_id, attributes)
    await handle.get_result()


async def rebuild() -> None:
    """Empty the indexes and have all documents brought in anew; return when they are on their way."""
    handle = await DBOS.start_workflow_async(anew.rebuild_index)
    await handle.get_result()


async def remove_store(database: Database, store_id: str) -> None:
    """Remove a store and wait until nothing of it is left."""
    async with database.session() as session:
        index_names = list((await Stores(session).parts(store_id)).values())
    handle = await DBOS.start_workflow_async(remove.remove_store, store_id, index_names)
    await handle.get_result()
