"""Start workflows, and see to it that every document in progress has one that is alive."""

import asyncio
import logging
from typing import Any

from dbos import DBOS, SetWorkflowID

from tunesmith_rag import describe, remove
from tunesmith_rag import ingest as ingestion
from tunesmith_rag import reindex as reindexing
from tunesmith_rag.embed import ModelAway
from tunesmith_rag.publish import WAITING
from tunesmith_rag.repository import Documents, Stores
from tunesmith_rag.resources import Resources
from tunesmith_shared.clock import now
from tunesmith_shared.errors import TunesmithError
from tunesmith_shared.tables import Document

_logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_WATCH_SECONDS = 5.0
_GLANCE_SECONDS = 2.0
_DEAD = {"ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS"}


async def open_queue(ingestions: int) -> None:
    """Take ingestions from the queue, `ingestions` at a time. Call once, after DBOS is launched."""
    await DBOS.register_queue_async(
        ingestion.QUEUE,
        worker_concurrency=ingestions,
        polling_interval_sec=_POLL_SECONDS,
        on_conflict="always_update",
    )


async def enqueue(document: Document) -> None:
    """Have the document ingested; doing it again changes nothing."""
    with SetWorkflowID(ingestion.workflow_id(document)):
        await DBOS.enqueue_workflow_async(
            ingestion.QUEUE, ingestion.ingest, document.vector_store_id, document.id, document.revision
        )


async def remove_documents(store_id: str, document_ids: list[str]) -> None:
    """Remove documents and wait until nothing of them is left."""
    handle = await DBOS.start_workflow_async(remove.remove_documents, store_id, document_ids)
    await handle.get_result()


async def describe_document(document_id: str, attributes: dict[str, Any]) -> None:
    """Replace a document's attributes and wait until searches filter on the new ones."""
    handle = await DBOS.start_workflow_async(describe.describe_document, document_id, attributes)
    await handle.get_result()


async def reindex(store_id: str, model: str) -> None:
    """Have a store's documents embedded with `model` anew; return when they are on their way."""
    handle = await DBOS.start_workflow_async(reindexing.reindex_store, store_id, model)
    await handle.get_result()


async def rebuild() -> None:
    """Empty the indexes and have all documents brought in anew; return when they are on their way."""
    handle = await DBOS.start_workflow_async(reindexing.rebuild_index)
    await handle.get_result()


async def remove_store(store_id: str) -> None:
    """Remove a store and wait until nothing of it is left."""
    handle = await DBOS.start_workflow_async(remove.remove_store, store_id)
    await handle.get_result()


async def watch(resources: Resources) -> None:
    """Keep looking for documents in progress that nothing works on, until cancelled.

    One whose request was killed between its row and its workflow is started. One whose ingestion DBOS has given up,
    since it took the whole process down again and again, is marked failed, so that it never waits for ever. One that
    waits for its embedding model is started when that is there, or has been away for too long. Stores that have expired
    are emptied.
    """
    while True:
        try:
            await check_documents(resources)
            await empty_expired_stores(resources)
        except Exception:  # the database may be away for seconds; this must outlive that
            _logger.exception("could not look after documents in progress and expired stores")
        await asyncio.sleep(_WATCH_SECONDS)


async def check_documents(resources: Resources) -> None:
    """Look once at every document in progress."""
    async with resources.database.session() as session:
        waiting = await Documents(session).of_status("in_progress")
    there: dict[str, bool] = {}
    for document in waiting:
        status = await DBOS.get_workflow_status_async(ingestion.workflow_id(document))
        if status is None:
            if await _can_start(resources, document, there):
                await enqueue(document)
        elif status.status in _DEAD:
            await _give_up(resources, document)


async def _can_start(resources: Resources, document: Document, there: dict[str, bool]) -> bool:
    """Say whether a document need not wait (any more) for its model; `there` notes what is known of models."""
    waits = document.facts.get(WAITING)
    if waits is None or now() - waits["since"] >= resources.settings.embedding_wait_seconds:
        return True
    model = waits["model"]
    if model not in there:
        try:
            async with asyncio.timeout(_GLANCE_SECONDS):
                await resources.embedder.model(model, 0)
            there[model] = True
        except (ModelAway, TimeoutError):
            there[model] = False
        except TunesmithError:
            there[model] = True  # the attempt will say what is wrong with it
    return there[model]


async def empty_expired_stores(resources: Resources) -> None:
    """Remove the documents of stores that have expired; the stores themselves stay, and say so."""
    async with resources.database.session() as session:
        contents = {
            store.id: list(await Documents(session).of_store(store.id)) for store in await Stores(session).expired()
        }
    for store_id, document_ids in contents.items():
        await remove_documents(store_id, document_ids)


async def _give_up(resources: Resources, document: Document) -> None:
    """Mark a document failed whose workflow has ended. No effect on one that was completed since it was looked at."""
    async with resources.database.session() as session:
        changed = await Documents(session).change(
            document.id,
            document.revision,
            status="failed",
            usage_bytes=0,
            error_code="server_error",
            error_message="Adding the document stopped the rag-service several times and was given up. Print it as a "
            "new PDF, or split it, and upload that; the rag-service's log has more.",
        )
    if changed:
        await resources.index.remove_document(document.vector_store_id, document.id)
        resources.endings.announce(document.id)
