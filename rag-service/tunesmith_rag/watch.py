"""Look after documents in progress, stores that are embedded anew, and stores that have expired."""

import asyncio
import logging

from dbos import DBOS

from tunesmith_rag import ingest as ingestion
from tunesmith_rag import jobs, reindex
from tunesmith_rag.embed import ModelAway
from tunesmith_rag.publish import WAITING
from tunesmith_rag.repository import Documents, Stores
from tunesmith_rag.resources import Resources
from tunesmith_shared.clock import now
from tunesmith_shared.errors import TunesmithError
from tunesmith_shared.tables import Document

_logger = logging.getLogger(__name__)

_WATCH_SECONDS = 5.0
_GLANCE_SECONDS = 2.0
_DEAD = {"ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "SUCCESS"}


async def watch(resources: Resources) -> None:
    """Keep looking for documents in progress that nothing works on, until cancelled.

    One whose request was killed between its row and its workflow is started. One whose ingestion DBOS has given up,
    since it took the whole process down again and again, is marked failed, so that it never waits for ever. One that
    waits for its embedding model is started when that is there, or has been away for too long. Stores that have expired
    are emptied, and stores whose documents are embedded anew change to the new vectors when these are complete.
    """
    while True:
        try:
            await reindex.follow(resources)
            await check_documents(resources)
            await empty_expired_stores(resources)
        except Exception:  # the database may be away for seconds; this must outlive that
            _logger.exception("could not look after documents in progress, and stores that expire or change")
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
                await jobs.enqueue(resources.database, document)
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
            store.id: list(await Documents(session).of_stores([store.id])) for store in await Stores(session).expired()
        }
    for store_id, document_ids in contents.items():
        await jobs.remove_documents(store_id, document_ids)


async def _give_up(resources: Resources, document: Document) -> None:
    """Mark a document failed whose workflow has ended. No effect on one that was completed since it was looked at."""
    async with resources.database.session() as session:
        index_name = await Stores(session).index_of(document.vector_store_id)
        changed = await Documents(session).change(
            document.id,
            document.revision,
            status="failed",
            usage_bytes=0,
            error_code="server_error",
            error_message="Adding the document stopped the rag-service several times and was given up. Print it as a "
            "new PDF, or split it, and upload that; the rag-service's log has more.",
        )
    if changed and index_name is not None:
        await resources.index.remove_document(index_name, document.chunks_name)
        resources.endings.announce(document.id)
