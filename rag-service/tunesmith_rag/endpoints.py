"""The routes: OpenAI's vector stores, and the store of a model. Every one needs the service token and the owner."""

from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Query, Request

from tunesmith_rag.answers import explanation, results_page
from tunesmith_rag.batches import Batches, BatchState
from tunesmith_rag.schemas import (
    AttachFile,
    AttachFiles,
    Attributed,
    CreateStore,
    Reindex,
    SearchBody,
    UpdateStore,
    batch_object,
    document_object,
    store_object,
)
from tunesmith_rag.service import Part, Status, StoreState, VectorStores
from tunesmith_shared.auth import Owner

Json = dict[str, Any]

router = APIRouter(tags=["vector stores"])


def _service(request: Request) -> VectorStores:
    return cast("VectorStores", request.app.state.vector_stores)


def _batches(request: Request) -> Batches:
    return cast("Batches", request.app.state.batches)


def _part(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> Part:
    return Part(limit, after, order == "desc")


Service = Annotated[VectorStores, Depends(_service)]
Wanted = Annotated[Part, Depends(_part)]
FileBatches = Annotated[Batches, Depends(_batches)]
WantedStatus = Annotated[Status | None, Query(alias="filter")]
Wait = Annotated[float, Query(ge=0, le=300, description="Seconds to wait for the ingestion to end before answering.")]


@router.post("/v1/vector_stores")
async def create_store(owner: Owner, service: Service, body: CreateStore) -> Json:
    """Create a vector store."""
    return _store(await service.create(owner, body))


@router.get("/v1/vector_stores")
async def list_stores(owner: Owner, service: Service, part: Wanted) -> Json:
    """List the owner's vector stores."""
    states, more = await service.list_stores(owner, part)
    return _list([_store(state) for state in states], more)


@router.get("/v1/vector_stores/{store_id}")
async def get_store(owner: Owner, service: Service, store_id: str) -> Json:
    """Show a vector store."""
    return _store(await service.get(owner, store_id))


@router.post("/v1/vector_stores/{store_id}")
async def update_store(owner: Owner, service: Service, store_id: str, body: UpdateStore) -> Json:
    """Change a vector store's name, metadata or expiry."""
    return _store(await service.update(owner, store_id, body))


@router.delete("/v1/vector_stores/{store_id}")
async def delete_store(owner: Owner, service: Service, store_id: str) -> Json:
    """Delete a vector store with everything in it."""
    await service.delete(owner, store_id)
    return {"id": store_id, "object": "vector_store.deleted", "deleted": True}


@router.post("/v1/vector_stores/{store_id}/reindex")
async def reindex_store(owner: Owner, service: Service, store_id: str, body: Reindex) -> Json:
    """Embed a vector store's files anew, with another model or the same; it is searched as it is meanwhile."""
    return _store(await service.reindex(owner, store_id, body))


@router.post("/index/rebuild")
async def rebuild_index(owner: Owner, service: Service) -> Json:  # noqa: ARG001 - asks for the service token
    """Empty the index and bring every document in anew from its file; not offered by the gateway."""
    return {"documents_in_progress": await service.rebuild()}


@router.get("/index")
async def show_index(owner: Owner, service: Service) -> Json:  # noqa: ARG001 - asks for the service token
    """Show how many documents are on their way, of all owners; not offered by the gateway."""
    return {"documents_in_progress": await service.waiting()}


@router.post("/v1/vector_stores/{store_id}/files")
async def attach_file(owner: Owner, service: Service, store_id: str, body: AttachFile) -> Json:
    """Add a file to a vector store; its ingestion goes on after the answer."""
    return document_object(await service.attach(owner, store_id, body))


@router.get("/v1/vector_stores/{store_id}/files")
async def list_files(owner: Owner, service: Service, store_id: str, part: Wanted, status: WantedStatus = None) -> Json:
    """List the files of a vector store; replaced versions are under `filter=cancelled`."""
    documents, more = await service.list_documents(owner, store_id, status, part)
    return _list([document_object(document) for document in documents], more)


@router.get("/v1/vector_stores/{store_id}/files/{file_id}")
async def get_file(owner: Owner, service: Service, store_id: str, file_id: str, wait: Wait = 0) -> Json:
    """Show a file of a vector store and how far its ingestion is, when it has ended or `wait` seconds are over."""
    return document_object(await service.ended_document(owner, store_id, file_id, wait))


@router.post("/v1/vector_stores/{store_id}/files/{file_id}")
async def update_file(owner: Owner, service: Service, store_id: str, file_id: str, body: Attributed) -> Json:
    """Replace the attributes of a file of a vector store."""
    return document_object(await service.describe(owner, store_id, file_id, body))


@router.get("/v1/vector_stores/{store_id}/files/{file_id}/content")
async def get_content(owner: Owner, service: Service, store_id: str, file_id: str) -> Json:
    """Show the text of a file of a vector store, chunk by chunk."""
    data = [{"type": "text", "text": text} for text in await service.content(owner, store_id, file_id)]
    return {"object": "vector_store.file_content.page", "data": data, "has_more": False, "next_page": None}


@router.post("/v1/vector_stores/{store_id}/file_batches")
async def create_batch(owner: Owner, batches: FileBatches, store_id: str, body: AttachFiles) -> Json:
    """Add several files to a vector store."""
    return _batch(await batches.create(owner, store_id, body))


@router.get("/v1/vector_stores/{store_id}/file_batches/{batch_id}")
async def get_batch(owner: Owner, batches: FileBatches, store_id: str, batch_id: str) -> Json:
    """Show a file batch."""
    return _batch(await batches.get(owner, store_id, batch_id))


@router.post("/v1/vector_stores/{store_id}/file_batches/{batch_id}/cancel")
async def cancel_batch(owner: Owner, batches: FileBatches, store_id: str, batch_id: str) -> Json:
    """Stop adding the files of a batch."""
    return _batch(await batches.cancel(owner, store_id, batch_id))


@router.get("/v1/vector_stores/{store_id}/file_batches/{batch_id}/files")
async def list_batch_files(
    owner: Owner, batches: FileBatches, store_id: str, batch_id: str, part: Wanted, status: WantedStatus = None
) -> Json:
    """List the files of a batch."""
    documents, more = await batches.files(owner, store_id, batch_id, status, part)
    return _list([document_object(document) for document in documents], more)


@router.delete("/v1/vector_stores/{store_id}/files/{file_id}")
async def detach_file(owner: Owner, service: Service, store_id: str, file_id: str) -> Json:
    """Delete a file from a vector store; the upload itself stays."""
    await service.detach(owner, store_id, file_id)
    return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}


@router.post("/v1/vector_stores/{store_id}/search")
async def search(owner: Owner, service: Service, store_id: str, body: SearchBody) -> Json:
    """Find the chunks that answer a question."""
    results = await service.search(owner, store_id, body)
    return {**results_page(results), **({"explanation": explanation(results)} if body.explain else {})}


# The names of models have slashes in them.
@router.put("/model_stores/{model:path}")
async def ensure_model_store(owner: Owner, service: Service, model: str) -> Json:
    """Return the vector store for the documents of a model; make it when there is none."""
    return _store(await service.ensure_of_model(owner, model))


@router.get("/model_stores/{model:path}")
async def get_model_store(owner: Owner, service: Service, model: str) -> Json:
    """Show the vector store for the documents of a model."""
    return _store(await service.of_model(owner, model))


def _store(state: StoreState) -> Json:
    return store_object(state.store, state.counts, state.usage_bytes, state.reindexing)


def _batch(state: BatchState) -> Json:
    return batch_object(state.batch, state.documents)


def _list(data: list[Json], has_more: bool) -> Json:
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "has_more": has_more, "first_id": first, "last_id": last}
