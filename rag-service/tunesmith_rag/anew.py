"""Bringing all documents in anew, from their stored files, into an index begun anew.

Durable: a kill in the middle leaves no documents that nobody works on. Searches find documents again one by one, as
they are complete.
"""

from dbos import DBOS

from tunesmith_rag import runtime
from tunesmith_rag.repository import Documents, Stores
from tunesmith_shared.durable import WORKFLOW


@DBOS.workflow(**WORKFLOW)
async def rebuild_index() -> None:
    """Bring all documents of all stores into an empty index."""
    with runtime.tracked():
        await empty_index()
        await start_documents()


@DBOS.step()
async def empty_index() -> None:
    """Remove the chunks of all stores, readable or not."""
    shared = runtime.resources()
    await shared.index.start_anew()
    async with shared.database.session() as session:
        await Stores(session).forget_vectors()


@DBOS.step()
async def start_documents() -> None:
    """Put the documents back in progress; `watch.py` finds them and starts their ingestions."""
    async with runtime.resources().database.session() as session:
        await Documents(session).bring_in_anew()
