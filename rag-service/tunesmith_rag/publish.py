"""How an ingestion ends: the document becomes visible, or failed, and what is of no more use is removed."""

import asyncio

from dbos import DBOS

from tunesmith_rag import runtime
from tunesmith_rag.repository import Documents, Stores
from tunesmith_shared.clock import now
from tunesmith_shared.outage import outlasting
from tunesmith_shared.tables import Document, VectorStore

MODEL_AWAY = "embedding_model_away"
"""The code of an attempt that ended because the embedding model was away."""

WAITING = "waiting_for_model"
"""The fact of a document that waits for its embedding model: which, and since when."""

_FLOAT_BYTES = 4


async def in_progress(document_id: str, revision: int) -> tuple[Document, VectorStore] | None:
    """Return a document in progress and its store; None when it was deleted, has ended or is brought in anew."""
    async with runtime.resources().database.session() as session:
        document = await Documents(session).get(document_id)
        if document is None or document.status != "in_progress" or document.revision != revision:
            return None
        return document, await session.get_one(VectorStore, document.vector_store_id)


@outlasting
async def progress(document_id: str, revision: int, **values: object) -> None:
    """Record how far the ingestion of a document is, if it is still going on."""
    async with runtime.resources().database.session() as session:
        await Documents(session).change(document_id, revision, **values)


@DBOS.step()
@outlasting
async def publish(document_id: str, revision: int = 0) -> None:
    """Make the document visible and older versions of it invisible, in one transaction.

    When a newer version was faster, this one is superseded at once. Older versions that failed are forgotten.
    """
    async with runtime.resources().database.session() as session:
        documents = Documents(session)
        document = await documents.get(document_id)
        if document is None or document.status != "in_progress" or document.revision != revision:
            return
        store = await session.get_one(VectorStore, document.vector_store_id)
        vectors = (document.chunks_total or 0) * (store.embedding_dimension or 0) * _FLOAT_BYTES
        versions = await documents.of_name(document)
        overtaken = any(version.status == "completed" and version.id > document_id for version in versions)
        status = "superseded" if overtaken else "completed"
        await documents.change(document_id, revision, status=status, usage_bytes=document.usage_bytes + vectors)
        older = [version for version in versions if version.id < document_id]
        await documents.remove([version.id for version in older if version.status == "failed"])
        for version in older:
            if version.status == "completed":
                version.status = "superseded"
                version.facts = {**version.facts, "superseded_by": document.file_id}


@DBOS.step()
@outlasting
async def postpone(document_id: str, revision: int = 0) -> bool:
    """Let the document wait for its embedding model, without a workflow; say no when it has waited long enough.

    What was read and embedded stays. The next revision has a workflow of its own, which `watch.py` starts.
    """
    shared = runtime.resources()
    found = await in_progress(document_id, revision)
    if found is None:
        return False
    document, store = found
    since = document.facts.get(WAITING, {}).get("since", now())
    if now() - since >= shared.settings.embedding_wait_seconds:
        return False
    facts = {**document.facts, WAITING: {"model": store.embedding_model, "since": since}}
    async with shared.database.session() as session:
        return await Documents(session).postpone(document_id, revision, facts)


@DBOS.step()
@outlasting
async def fail(document_id: str, refusal: dict[str, str], revision: int = 0) -> None:
    """Mark the document failed, with what its owner should know; nothing of it stays in the index."""
    shared = runtime.resources()
    found = await in_progress(document_id, revision)
    if found is None:
        return
    document, store = found
    await shared.index.remove_document(store.index, document.chunks_name)
    async with shared.database.session() as session:
        await Documents(session).change(
            document_id,
            revision,
            status="failed",
            usage_bytes=0,
            facts={},
            error_code="server_error" if refusal["code"] == MODEL_AWAY else refusal["code"],
            error_message=refusal["message"],
        )


@DBOS.step()
@outlasting
async def clean_up(index_name: str, document_id: str) -> None:
    """Remove what nobody sees any more: work files, chunks of replaced versions, what a deletion left behind."""
    shared = runtime.resources()
    await asyncio.to_thread(shared.work_folder(document_id).remove)
    async with shared.database.session() as session:
        documents = Documents(session)
        document = await documents.get(document_id)
        superseded = await documents.superseded(document) if document else []
        unused = await Stores(session).using(index_name) is None
        wanted = await documents.wanted(index_name, document_id)
    if unused:
        await shared.index.remove_store(index_name)
    elif not wanted:
        await shared.index.remove_document(index_name, document_id.partition(".")[0])
    for version in superseded:
        await shared.index.remove_document(index_name, version.chunks_name)
        async with shared.database.session() as session:
            await Documents(session).mark_replaced(version.id)
