"""Documents on the gateway's side: documents by name, and searching for chunks to answer from.

The rag-service keeps vector stores and their documents; here a shelf, which is a model's name or a vector store that
any model may use, becomes a store, and a document's name its file.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fastapi import UploadFile

from tunesmith_gateway.citations import Chunk
from tunesmith_gateway.files import FileService, checked_filename
from tunesmith_gateway.upstream import Upstream
from tunesmith_shared.errors import BadRequest, NotFound
from tunesmith_shared.tracing import span

Json = dict[str, Any]


@dataclass(frozen=True)
class Shelf:
    """Where documents are: with `model`, or in the vector store `store` that any model may use; one of the two."""

    model: str = ""
    store: str = ""


@dataclass(frozen=True)
class Retrieval:
    """How to search: `k` chunks, and how many versions of the question in all (`rewrite_model` writes the others).

    `rerank` is whether candidates are put in a better order, `threshold` the evidence to ask for, None the service's
    for a model that is a `large_model` or another.
    """

    k: int
    queries: int
    rewrite_model: str | None = None
    rerank: bool = True
    threshold: float | None = None
    large_model: bool = False


@dataclass(frozen=True)
class Found:
    """The chunks of one vector store that answer a question, best first; whether they are worth answering from, and
    how likely that is, from 0 to 1; and what did not go as asked.
    """

    chunks: list[Chunk]
    sufficient: bool = False
    evidence: float = 0.0
    notes: list[str] = field(default_factory=list)


class DocumentService:
    """Imports, lists, removes and searches documents through the rag-service."""

    def __init__(self, rag: Upstream, files: FileService) -> None:
        self._rag = rag
        self._files = files

    async def import_document(self, owner: str, shelf: Shelf, upload: UploadFile, wait: float) -> Json:
        """Ingest an upload for `shelf` and wait up to `wait` seconds for it.

        Returns the document, `completed` or still `in_progress`. Raises `BadRequest` with the reason when it cannot be
        read, and `NotFound` for a vector store that is not there; nothing of it is kept then.
        """
        if shelf.store:
            store = await self._rag.call("GET", f"/v1/vector_stores/{shelf.store}", owner=owner)
        else:
            store = await self._rag.call("PUT", f"/model_stores/{shelf.model}", owner=owner)
        row = await self._files.create(owner, upload, "assistants")
        documents = f"/v1/vector_stores/{store['id']}/files"
        document = await self._rag.call("POST", documents, owner=owner, body={"file_id": row.id})
        if document["id"] != row.id:  # the same bytes are a document here already
            await self._files.delete(owner, row.id)
        place = f"{documents}/{document['id']}"
        document = await self._rag.call("GET", place, owner=owner, params={"wait": str(wait)})
        if document["status"] == "failed":
            await self._rag.call("DELETE", place, owner=owner)
            await self._files.delete(owner, document["id"])
            raise BadRequest(f"{row.filename}: {document['last_error']['message']}", param="file", code="invalid_file")
        return shown(document, shelf)

    async def on_shelf(self, owner: str, shelf: Shelf) -> list[Json]:
        """Return the documents of `shelf`; none when the model has no store."""
        store = await self._store(owner, shelf)
        if store is None:
            return []
        return [shown(document, shelf) for document in await self._documents(owner, store)]

    async def delete(self, owner: str, shelf: Shelf, name: str) -> list[str]:
        """Remove the document of this name (or file id) and return the ids of its files. Raises `NotFound`."""
        checked_filename(name)
        store = await self._store(owner, shelf)
        documents = await self._documents(owner, store) if store else []
        named = [document for document in documents if name in (document["filename"], document["id"])]
        if not named or store is None:
            raise _no_document(name, shelf, [document["filename"] for document in documents])
        return [await self._remove(owner, store, document) for document in named]

    async def delete_all(self, owner: str, shelf: Shelf) -> list[str]:
        """Remove all documents of `shelf` and return the ids of their files."""
        store = await self._store(owner, shelf)
        if store is None:
            return []
        return [await self._remove(owner, store, document) for document in await self._documents(owner, store)]

    async def search_model(
        self, owner: str, model: str, names: list[str], questions: list[str], how: Retrieval
    ) -> Found:
        """Return the chunks of the named documents of `model` that answer one of `questions`."""
        for name in names:
            checked_filename(name)
        shelf = Shelf(model)
        store = await self._store(owner, shelf)
        documents = await self._documents(owner, store) if store else []
        wanted = set()
        for name in names:
            ids = {document["id"] for document in documents if name in (document["filename"], document["id"])}
            if not ids:
                raise _no_document(name, shelf, [document["filename"] for document in documents])
            wanted |= ids
        if store is None:
            return Found([])
        return await self.search(owner, store, questions, how, wanted)

    async def search(
        self, owner: str, store: str, questions: list[str], how: Retrieval, file_ids: set[str] | None = None
    ) -> Found:
        """Return the chunks of a vector store that answer one of `questions`; of `file_ids` only, when given."""
        body = _search_body(questions, how, file_ids)
        with span("retrieval", {"tunesmith.chunks_wanted": how.k, "tunesmith.queries": how.queries}) as searched:
            page = await self._rag.call("POST", f"/v1/vector_stores/{store}/search", owner=owner, body=body)
            searched.set_attribute("tunesmith.chunks_found", len(page["data"]))
        chunks = [
            Chunk(
                file_id=found["file_id"],
                filename=found["filename"],
                page=int(found["attributes"]["page"]),
                text=found["content"][0]["text"],
                score=found["score"],
            )
            for found in page["data"]
        ]
        evidence = page["evidence"]
        if evidence is None:  # a threshold of 0: whatever is found is good enough
            return Found(chunks, bool(chunks), 1.0, page["notes"])
        return Found(chunks, bool(chunks) and evidence["sufficient"], evidence["score"], page["notes"])

    async def _store(self, owner: str, shelf: Shelf) -> str | None:
        if shelf.store:
            return str((await self._rag.call("GET", f"/v1/vector_stores/{shelf.store}", owner=owner))["id"])
        try:
            return str((await self._rag.call("GET", f"/model_stores/{shelf.model}", owner=owner))["id"])
        except NotFound:
            return None

    async def _documents(self, owner: str, store: str) -> list[Json]:
        documents: list[Json] = []
        params = {"limit": "100"}
        while True:
            page = await self._rag.call("GET", f"/v1/vector_stores/{store}/files", owner=owner, params=params)
            documents += page["data"]
            if not page["has_more"]:
                return documents
            params["after"] = page["last_id"]

    async def _remove(self, owner: str, store: str, document: Json) -> str:
        await self._rag.call("DELETE", f"/v1/vector_stores/{store}/files/{document['id']}", owner=owner)
        with suppress(NotFound):  # the file may have been removed through /v1/files before
            await self._files.delete(owner, document["id"])
        return str(document["id"])


def _search_body(questions: list[str], how: Retrieval, file_ids: set[str] | None) -> Json:
    body: Json = {
        "query": questions,
        "max_num_results": how.k,
        "merge_neighbours": True,
        "rewrite_query": how.queries > 1,
        "ranking_options": {"ranker": "auto" if how.rerank else "none"},
        "large_model": how.large_model,
    }
    if how.queries > 1:
        body |= {"rewrite_model": how.rewrite_model, "rewrite_count": how.queries - 1}
    if how.threshold is not None:
        body["evidence_threshold"] = how.threshold
    if file_ids:
        body["filters"] = {"type": "in", "key": "file_id", "value": sorted(file_ids)}
    return body


def shown(document: Json, shelf: Shelf) -> Json:
    """Return a document as the plain routes show it."""
    return {
        "documentName": document["filename"],
        "file_id": document["id"],
        **named(shelf),
        "status": document["status"],
        "bytes": document["usage_bytes"],
        "progress": document.get("progress", {}),
        "last_error": document["last_error"],
        "created_at": document["created_at"],
    }


def named(shelf: Shelf) -> Json:
    """Return how the plain routes name a shelf."""
    return {"vectorStoreId": shelf.store} if shelf.store else {"modelName": shelf.model}


def _no_document(name: str, shelf: Shelf, there: list[str]) -> NotFound:
    listed = ", ".join(sorted(set(there))) or "none; import one with POST /importDocument"
    return NotFound(
        f"{shelf.model or shelf.store} has no document '{name}'. Its documents: {listed}.", param="documents"
    )
