"""Deleting documents and vector stores: durable too, so that a kill in the middle leaves nothing behind."""

import asyncio

from dbos import DBOS

from tunesmith_rag import runtime
from tunesmith_rag.repository import Documents, Stores
from tunesmith_shared.durable import WORKFLOW
from tunesmith_shared.outage import outlasting


@DBOS.workflow(**WORKFLOW)
async def remove_documents(store_id: str, document_ids: list[str]) -> None:
    """Remove documents with their chunks. They are invisible from the first step on."""
    with runtime.tracked():
        await hide_documents(document_ids)
        await remove_chunks(store_id, document_ids)


@DBOS.workflow(**WORKFLOW)
async def remove_store(store_id: str, index_names: list[str] | None = None) -> None:
    """Remove a vector store, and its shadow, with their documents and indexes."""
    with runtime.tracked():
        document_ids = await contents(store_id)
        last = await remove_store_rows(store_id)
        await remove_indexes(list({*(index_names or [store_id]), *(last or [])}), document_ids)


@DBOS.step()
@outlasting
async def hide_documents(document_ids: list[str]) -> None:
    """Make the documents invisible; an ingestion that is under way sees it and stops."""
    async with runtime.resources().database.session() as session:
        await Documents(session).hide(document_ids)


@DBOS.step()
@outlasting
async def remove_chunks(store_id: str, document_ids: list[str]) -> None:
    """Remove the documents' chunks, files of unfinished ingestions, and rows, in this order."""
    shared = runtime.resources()
    async with shared.database.session() as session:
        index_name = await Stores(session).index_of(store_id) or store_id
    for document_id in document_ids:
        await shared.index.remove_document(index_name, document_id.partition(".")[0])
        await asyncio.to_thread(shared.work_folder(document_id).remove)
    async with shared.database.session() as session:
        await Documents(session).remove(document_ids)


@DBOS.step()
@outlasting
async def contents(store_id: str) -> list[str]:
    """Return the ids of the documents of the store and its shadow."""
    async with runtime.resources().database.session() as session:
        return list(await Documents(session).of_stores(await Stores(session).parts(store_id)))


@DBOS.step()
@outlasting
async def remove_store_rows(store_id: str) -> list[str]:
    """Remove the rows of the store and its documents: from here on it does not exist for anyone. Return its indexes."""
    async with runtime.resources().database.session() as session:
        index_names = list((await Stores(session).parts(store_id)).values())
        await Stores(session).remove(store_id)
    return index_names


@DBOS.step()
@outlasting
async def remove_indexes(index_names: list[str], document_ids: list[str]) -> None:
    """Remove the chunks in indexes that no other store has taken over, and files of unfinished ingestions."""
    shared = runtime.resources()
    for name in index_names:
        async with shared.database.session() as session:
            unused = await Stores(session).using(name) is None
        if unused:
            await shared.index.remove_store(name)
    for document_id in document_ids:
        await asyncio.to_thread(shared.work_folder(document_id).remove)
