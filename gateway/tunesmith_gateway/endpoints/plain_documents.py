"""The plain dialect: documents of a model, or of a vector store that any model may use."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response, UploadFile

from tunesmith_gateway.dependencies import GatewayServices, Reader, Services
from tunesmith_gateway.documents import Shelf
from tunesmith_gateway.documents import named as shelf_named
from tunesmith_gateway.endpoints.spelling import Names, named
from tunesmith_shared.errors import BadRequest

router = APIRouter(tags=["plain"])


@router.post("/importDocument")
async def import_document(
    file: UploadFile,
    response: Response,
    services: GatewayServices,
    caller: Reader,
    model_name: Annotated[str | None, Form(alias="modelName")] = None,
    snake_name: Annotated[str | None, Form(alias="model_name")] = None,
    store_id: Annotated[str | None, Form(alias="vectorStoreId")] = None,
    snake_store: Annotated[str | None, Form(alias="vector_store_id")] = None,
) -> dict[str, Any]:
    """Ingest a document: 200 when it can be asked, 202 when that takes longer than a minute."""
    names = {"model_name": model_name or snake_name, "vector_store_id": store_id or snake_store}
    shelf = await _shelf(services, caller.owner, names)
    document = await services.documents.import_document(caller.owner, shelf, file, services.settings.import_wait)
    if document["status"] == "in_progress":
        response.status_code = 202
    return document


@router.get("/listDocuments")
async def list_documents(names: Names, services: GatewayServices, caller: Reader) -> dict[str, Any]:
    """List the documents of a model or a vector store."""
    shelf = await _shelf(services, caller.owner, names)
    return {**shelf_named(shelf), "documents": await services.documents.on_shelf(caller.owner, shelf)}


@router.delete("/deleteDocument")
async def delete_document(names: Names, services: GatewayServices, caller: Reader) -> dict[str, Any]:
    """Remove a document."""
    name = named(names, "documentName")
    shelf = await _shelf(services, caller.owner, names)
    removed = await services.documents.delete(caller.owner, shelf, name)
    return {"status": "Document deleted", **shelf_named(shelf), "documentName": name, "file_ids": removed}


@router.delete("/deleteAll_Documents")
async def delete_all_documents(names: Names, services: GatewayServices, caller: Reader) -> dict[str, Any]:
    """Remove all documents of a model or a vector store."""
    shelf = await _shelf(services, caller.owner, names)
    removed = await services.documents.delete_all(caller.owner, shelf)
    return {"status": "Documents deleted", **shelf_named(shelf), "deleted": len(removed), "file_ids": removed}


async def _shelf(services: Services, owner: str, names: dict[str, Any]) -> Shelf:
    """Return the shelf that a request names: a vector store, or else a model that there is."""
    if store := names.get("vector_store_id"):
        if not isinstance(store, str) or not store.startswith("vs-") or not store.replace("-", "").isalnum():
            raise BadRequest("vectorStoreId must be the id of a vector store, vs-...", param="vectorStoreId")
        return Shelf(store=store)
    if not names.get("model_name"):
        raise BadRequest("Name the model that the documents are for.", param="modelName")
    return Shelf(await services.models.require(owner, named(names, "modelName"), "modelName"))
