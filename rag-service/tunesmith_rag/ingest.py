"""Ingestion: the durable way of a file into a vector store.

    bring in (read, split, embed, add at the same time: `fill.py`) -> publish (one transaction) -> clean up

A kill at any moment loses a few windows of chunks, and every step can run again: chunks have fixed names, and
rows change only while the document is in progress. A document whose embedding model is away gives its place to others;
`watch.py` starts it again when the model is there. Chunks are written hidden; `publish` is the one moment in which a
document becomes visible and the earlier version of it stops being so.
"""

import asyncio
import logging

from dbos import DBOS, error

from tunesmith_rag import runtime
from tunesmith_rag.embed import ModelAway
from tunesmith_rag.fill import Fill, Order
from tunesmith_rag.fingerprint import alike
from tunesmith_rag.index import facts_of
from tunesmith_rag.pages import DocumentRefused
from tunesmith_rag.publish import MODEL_AWAY, clean_up, fail, in_progress, postpone, progress, publish
from tunesmith_rag.repository import Stores
from tunesmith_shared.durable import WORKFLOW
from tunesmith_shared.errors import TunesmithError, UpstreamFailed
from tunesmith_shared.outage import outlasting
from tunesmith_shared.tables import Document, VectorStore

QUEUE = "ingestion"

_logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
"""Between looks at whether a document is still wanted: how long a deleted one keeps its place in the queue."""


def workflow_id(document: Document) -> str:
    """Return the fixed id of a document's ingestion, so that it is started once however often that is asked."""
    return f"ingest-{document.id}" + (f"-{document.revision}" if document.revision else "")


@DBOS.workflow(**WORKFLOW)
async def ingest(index_name: str, document_id: str, revision: int = 0) -> None:
    """Bring the document with this id, a row in progress, into its vector store, or mark it failed with a reason.

    `index_name` is where that store's chunks are; it does not change while a document is in progress.
    Does nothing when the document has another `revision` by now: that has a workflow of its own.
    """
    with runtime.tracked():
        refusal = await _attempt(document_id, revision)
        if refusal is not None and refusal["code"] == MODEL_AWAY and await postpone(document_id, revision):
            return
        if refusal is not None:
            await fail(document_id, refusal, revision)
        await clean_up(index_name, document_id)
    runtime.resources().endings.announce(document_id)


async def _attempt(document_id: str, revision: int) -> dict[str, str] | None:
    """Run the steps; return None, or what to tell the document's owner as OpenAI's `last_error`."""
    try:
        if refusal := await bring_in(document_id, revision):
            return refusal
        await publish(document_id, revision)
    except error.DBOSException:
        raise  # DBOS's own signals: this execution is not the workflow's owner any more, or it was cancelled
    except TunesmithError as failure:
        return {"code": "server_error", "message": failure.message}
    except Exception:
        _logger.exception("the ingestion of %s failed", document_id)
        return {
            "code": "server_error",
            "message": "Something went wrong on our side while the document was being added; the log of the "
            "rag-service has more. Add the document again.",
        }
    return None


@DBOS.step()
@outlasting
async def bring_in(document_id: str, revision: int = 0) -> dict[str, str] | None:
    """Write the document's chunks to the index, hidden, from where an earlier attempt was cut off.

    Return why when the document cannot be read, or its model is away; None also when it is not wanted any more.
    """
    found = await in_progress(document_id, revision)
    if found is None:
        return None
    fill = asyncio.create_task(_fill(*found))
    unwanted = asyncio.create_task(_until_unwanted(document_id, revision))
    try:
        await asyncio.wait({fill, unwanted}, return_when=asyncio.FIRST_COMPLETED)
        for ended in (fill, unwanted):
            if ended.done():
                ended.result()
    except DocumentRefused as refusal:
        return {"code": refusal.code, "message": str(refusal)}
    except ModelAway as absence:
        return {"code": MODEL_AWAY, "message": absence.message}
    finally:
        # Ends the child process, and a wait for a model that is not there.
        fill.cancel()
        unwanted.cancel()
        await asyncio.gather(fill, unwanted, return_exceptions=True)
    return None


async def _fill(document: Document, store: VectorStore) -> None:
    shared = runtime.resources()
    order = Order(
        document.chunks_name,
        shared.files.path(document.file_id),
        document.filename,
        document.chunking_strategy,
        facts_of(document, document.attributes),
        store.index,
        store.embedding_model,
        written=document.chunks_done,
    )

    async def check_dimension(dimension: int) -> None:
        await _check_model(store, dimension)

    shared.fingerprints.forget(store.embedding_model)  # it may be another one since the last document

    async def report(**values: object) -> None:
        await progress(document.id, document.revision, **values)

    tools = shared.filling(check_dimension)
    await Fill(order, tools, shared.work_folder(document.id), report).run()


async def _until_unwanted(document_id: str, revision: int) -> None:
    """Return when the document has been deleted or cancelled, or is brought in anew."""
    while await in_progress(document_id, revision) is not None:  # noqa: ASYNC110 - another process may delete it
        await asyncio.sleep(_LOOK_SECONDS)


async def _check_model(store: VectorStore, dimension: int) -> None:
    """Raise when what embeds now is not what made the store's vectors so far."""
    shared = runtime.resources()
    fingerprint = await shared.fingerprints.of(store.embedding_model, shared.settings.embedding_place_seconds)
    async with shared.database.session() as session:
        recorded = await Stores(session).settle_dimension(store.id, dimension)
        same = alike(await Stores(session).settle_fingerprint(store.id, fingerprint), fingerprint)
    if recorded != dimension or not same:
        raise UpstreamFailed(
            f"The vectors of this vector store were made by another model than the one that is called "
            f"{store.embedding_model} now ({recorded} and {dimension} numbers). Load the former model again and add "
            f"the file, or embed the documents anew: POST /v1/vector_stores/{store.id}/reindex."
        )
