"""Embedding a store's documents anew, from their files, while it goes on being searched.

    begin: a shadow of the store, twins of its documents -> ingested as any others -> taken over -> old index removed

The store is searched with its old vectors and model until the last twin is complete; then one transaction changes
both. Rows alone say how far it is, so a kill at any moment leaves the old or the new, and `follow` goes on from there.
Documents that are added meanwhile go into the store as always, and get twins when they are complete: whoever adds them
finds them at once, and nothing has to be refused for hours. Those that are deleted lose their twins. When a twin fails
the store stays as it is and says why, until it is reindexed again or what failed is deleted.
"""

from sqlalchemy.exc import IntegrityError

from tunesmith_rag import jobs
from tunesmith_rag.resources import Resources
from tunesmith_rag.shadows import Shadows
from tunesmith_shared.database import Database
from tunesmith_shared.tables import VectorStore


async def begin(database: Database, store: VectorStore, model: str) -> None:
    """Have all documents of `store` embedded with `model`. No effect while that is going on already.

    With another model, or after a failure, it begins afresh.
    """
    async with database.session() as session:
        shadow = await Shadows(session).of(store.id)
        going_on = (await Shadows(session).states([store])).get(store.id)
    if going_on is not None and going_on.model == model and not going_on.failed:
        return
    if shadow is not None:
        await jobs.remove_store(database, shadow.id)
    try:
        async with database.session() as session:
            await Shadows(session).follow(await Shadows(session).open(store, model))
    except IntegrityError:
        return  # another request began at the same time


async def follow(resources: Resources) -> None:
    """Look once at every store that is embedded anew, and do what is next."""
    async with resources.database.session() as session:
        shadows = await Shadows(session).all()
    for shadow in shadows:
        await _follow(resources.database, shadow)


async def _follow(database: Database, shadow: VectorStore) -> None:
    async with database.session() as session:
        store = await session.get(VectorStore, shadow.reindexes)
    if store is None or store.index == shadow.id:
        # Not right after it was taken over: searches that had begun before have ended by now.
        await jobs.remove_store(database, shadow.id)
        return
    async with database.session() as session:
        gone = await Shadows(session).follow(shadow)
    if gone:
        await jobs.remove_documents(shadow.id, gone)
    async with database.session() as session:
        await Shadows(session).take_over(shadow)
