"""Replacing a document's attributes: durable, so that what is searched and what is shown never differ for long."""

import asyncio
from typing import Any

from dbos import DBOS

from tunesmith_rag import runtime
from tunesmith_rag.index import facts_of
from tunesmith_rag.repository import Documents, Stores
from tunesmith_shared.durable import WORKFLOW

_one_at_a_time = asyncio.Lock()
"""Two replacements at once would leave the indexes with attributes of both."""


@DBOS.workflow(**WORKFLOW)
async def describe_document(document_id: str, attributes: dict[str, Any]) -> None:
    """Replace the attributes of a document whose ingestion has ended."""
    with runtime.tracked():
        await replace_attributes(document_id, attributes)


@DBOS.step()
async def replace_attributes(document_id: str, attributes: dict[str, Any]) -> None:
    """Replace them in the indexes, then in the row. No effect on a document that was deleted."""
    shared = runtime.resources()
    async with _one_at_a_time:
        async with shared.database.session() as session:
            document = await Documents(session).get(document_id)
        if document is None or document.status == "deleting":
            return
        facts = facts_of(document, attributes)
        described = None
        while (index_name := await _index_of(document.vector_store_id)) != described:  # it was embedded anew meanwhile
            if index_name is None:
                return
            await shared.index.describe(index_name, document_id, facts)
            async with shared.database.session() as session:
                await Documents(session).describe(document_id, attributes)
            described = index_name


async def _index_of(store_id: str) -> str | None:
    async with runtime.resources().database.session() as session:
        return await Stores(session).index_of(store_id)
