"""Ingestion: the durable way of a file into a vector store.

    parse (capped child process) -> split -> embed, a batch a step -> publish (one transaction) -> clean up

A kill at any moment loses at most one step, and every step can run again: files appear whole, chunks have fixed
names, and rows change only while the document is in progress. Chunks are written hidden; `publish` is the one moment
in which a document becomes visible and the earlier version of it stops being so.
"""

import asyncio
import logging
from contextlib import aclosing

from dbos import DBOS, error

from tunesmith_rag import runtime
from tunesmith_rag.index import Chunk, facts_of
from tunesmith_rag.pages import DocumentRefused
from tunesmith_rag.parse import ParseLimits, parse
from tunesmith_rag.publish import clean_up, fail, in_progress, progress, publish
from tunesmith_rag.repository import Stores
from tunesmith_rag.settings import RagSettings
from tunesmith_rag.split import effective_chunking, page_splitter, strategy_of
from tunesmith_rag.workfiles import Draft, read_lines, write_lines
from tunesmith_shared.durable import WORKFLOW
from tunesmith_shared.errors import TunesmithError, UpstreamFailed
from tunesmith_shared.tables import VectorStore

QUEUE = "ingestion"

_logger = logging.getLogger(__name__)

_PROGRESS_PAGES = 20


def workflow_id(document_id: str) -> str:
    """Return the fixed id of a document's ingestion, so that it is started once however often that is asked."""
    return f"ingest-{document_id}"


@DBOS.workflow(**WORKFLOW)
async def ingest(store_id: str, document_id: str) -> None:
    """Bring the document with this id, a row in progress, into its vector store, or mark it failed with a reason."""
    with runtime.tracked():
        refusal = await _attempt(document_id)
        if refusal is not None:
            await fail(document_id, refusal)
        await clean_up(store_id, document_id)
    runtime.resources().endings.announce(document_id)


async def _attempt(document_id: str) -> dict[str, str] | None:
    """Run the steps; return None, or what to tell the document's owner as OpenAI's `last_error`."""
    try:
        for step in (parse_document, split_document):
            if refusal := await step(document_id):
                return refusal
        start = 0
        while (done := await embed_batch(document_id, start)) > start:
            start = done
        await publish(document_id)
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
async def parse_document(document_id: str) -> dict[str, str] | None:
    """Write the pages of the document's file; return why when that cannot be done."""
    shared = runtime.resources()
    found = await in_progress(document_id)
    if found is None:
        return None
    document, _ = found
    folder = shared.work_folder(document_id)
    unread: dict[str, list[int]] = {"pages_without_text": [], "pages_unreadable": []}
    total = 0
    try:
        async with aclosing(parse(shared.files.path(document.file_id), _limits(shared.settings))) as pages:
            with Draft(folder.pages) as draft:
                async for page in pages:
                    total = page.total
                    draft.write({"page": page.number, "text": page.text})
                    if not page.text:
                        unread["pages_without_text" if page.readable else "pages_unreadable"].append(page.number)
                    if page.number % _PROGRESS_PAGES == 0 or page.number == total:
                        await progress(document_id, pages_total=total, pages_done=page.number)
                draft.finish()
        _refuse_without_text(total, unread)
    except DocumentRefused as refusal:
        return {"code": refusal.code, "message": str(refusal)}
    await progress(document_id, facts={name: numbers for name, numbers in unread.items() if numbers})
    return None


def _refuse_without_text(total: int, unread: dict[str, list[int]]) -> None:
    if sum(map(len, unread.values())) < total:
        return
    if unread["pages_unreadable"]:
        raise DocumentRefused(
            "invalid_file",
            "No page of the PDF could be read: its content is damaged. Print it as a new PDF and upload that.",
        )
    raise DocumentRefused(
        "invalid_file",
        f"The PDF has no text on any of its {total} pages: they are probably scanned images. Recognise the "
        "text first, for example with `ocrmypdf in.pdf out.pdf`, and upload the result.",
    )


@DBOS.step()
async def split_document(document_id: str) -> dict[str, str] | None:
    """Write the chunks of the document's pages; return why when that cannot be done."""
    shared = runtime.resources()
    found = await in_progress(document_id)
    if found is None:
        return None
    document, store = found
    model = await shared.embedder.model(store.embedding_model, shared.settings.embedding_wait_seconds)
    chunking = effective_chunking(document.chunking_strategy, model.max_tokens)
    split = page_splitter(chunking, model.count)
    folder = shared.work_folder(document_id)

    def write() -> tuple[int, int]:
        count = write_lines(
            folder.chunks,
            ({"page": page["page"], "text": text} for page in read_lines(folder.pages) for text in split(page["text"])),
        )
        return count, sum(len(line["text"].encode()) for line in read_lines(folder.chunks))

    count, size = await asyncio.to_thread(write)
    await progress(document_id, chunks_total=count, usage_bytes=size, chunking_strategy=strategy_of(chunking))
    return None


@DBOS.step()
async def embed_batch(document_id: str, start: int) -> int:
    """Embed the chunks from number `start` on and write them to the index, hidden; return the number of the next chunk.

    That is `start` itself when there are no more. Raises `TunesmithError` when the model stays away.
    """
    shared = runtime.resources()
    found = await in_progress(document_id)
    if found is None:
        return start
    document, store = found
    folder, size = shared.work_folder(document_id), shared.settings.embedding_batch
    lines = await asyncio.to_thread(lambda: list(read_lines(folder.chunks, start, size)))
    if not lines:
        return start
    chunks = [Chunk(document_id, start + i, line["page"], line["text"]) for i, line in enumerate(lines)]
    vectors = await shared.embedder.embed(
        store.embedding_model, [chunk.text for chunk in chunks], shared.settings.embedding_wait_seconds
    )
    await _check_dimension(store, len(vectors[0]))
    await shared.index.add(store.id, chunks, vectors, facts_of(document, document.attributes))
    await progress(document_id, chunks_done=start + len(chunks))
    return start + len(chunks)


async def _check_dimension(store: VectorStore, dimension: int) -> None:
    async with runtime.resources().database.session() as session:
        recorded = await Stores(session).settle_dimension(store.id, dimension)
    if recorded != dimension:
        raise UpstreamFailed(
            f"The vector store holds vectors of {recorded} numbers and {store.embedding_model} now makes "
            f"{dimension}: another model has taken its name. Load the former model again, or create a new vector store "
            "and add the files to it."
        )


def _limits(settings: RagSettings) -> ParseLimits:
    return ParseLimits(
        settings.parse_seconds,
        settings.parse_seconds_per_page,
        settings.parse_memory_mb,
        settings.parse_max_pages,
        settings.parse_max_characters,
    )
