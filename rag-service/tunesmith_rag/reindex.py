"""Bringing documents in anew, from their stored files: with another embedding model, or into an index begun anew.

Durable: a kill in the middle leaves neither vectors of two models in one store nor documents that nobody works on.
Searches of a store find its documents again one by one, as they are complete.
"""

from dbos import DBOS

from tunesmith_rag import runtime
from tunesmith_rag.repository import Documents, Stores
from tunesmith_shared.durable import WORKFLOW


@DBOS.workflow(**WORKFLOW)
async def reindex_store(store_id: str, model: str) -> None:
    """Embed all documents of a store with `model`."""
    with runtime.tracked():
        await hide_store(store_id, model)
        await empty_store(store_id)
        await start_documents(store_id)


@DBOS.workflow(**WORKFLOW)
async def rebuild_index() -> None:
    """Bring all documents of all stores into an empty index."""
    with runtime.tracked():
        await empty_index()
        await start_documents(None)


@DBOS.step()
async def hide_store(store_id: str, model: str) -> None:
    """Change the store's model. From here on, what was embedded with the former one fails instead of being mixed in."""
    async with runtime.resources().database.session() as session:
        await Stores(session).use_model(store_id, model)


@DBOS.step()
async def empty_store(store_id: str) -> None:
    """Remove the store's chunks."""
    await runtime.resources().index.remove_store(store_id)


@DBOS.step()
async def empty_index() -> None:
    """Remove the chunks of all stores, readable or not."""
    shared = runtime.resources()
    await shared.index.start_anew()
    async with shared.database.session() as session:
        await Stores(session).use_model(None, None)


@DBOS.step()
async def start_documents(store_id: str | None) -> None:
    """Put the documents back in progress; `jobs.watch` finds them and starts their ingestions."""
    async with runtime.resources().database.session() as session:
        await Documents(session).bring_in_anew(store_id)
