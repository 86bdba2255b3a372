"""The plain dialect: a model's documents."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response, UploadFile

from tunesmith_gateway.dependencies import GatewayServices, Reader
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
) -> dict[str, Any]:
    """Ingest a document for a model: 200 when it can be asked, 202 when that takes longer than a minute."""
    name = model_name or snake_name
    if not name:
        raise BadRequest("Name the model that the document is for.", param="modelName")
    model = await services.models.require(caller.owner, name, "modelName")
    document = await services.documents.import_document(caller.owner, model, file, services.settings.import_wait)
    if document["status"] == "in_progress":
        response.status_code = 202
    return document


@router.get("/listDocuments")
async def list_documents(names: Names, services: GatewayServices, caller: Reader) -> dict[str, Any]:
    """List a model's documents."""
    model = await services.models.require(caller.owner, named(names, "modelName"), "modelName")
    return {"modelName": model, "documents": await services.documents.of_model(caller.owner, model)}


@router.delete("/deleteDocument")
async def delete_document(names: Names, services: GatewayServices, caller: Reader) -> dict[str, Any]:
    """Remove a document of a model."""
    name = named(names, "documentName")
    model = await services.models.require(caller.owner, named(names, "modelName"), "modelName")
    removed = await services.documents.delete(caller.owner, model, name)
    return {"status": "Document deleted", "modelName": model, "documentName": name, "file_ids": removed}


@router.delete("/deleteAll_Documents")
async def delete_all_documents(names: Names, services: GatewayServices, caller: Reader) -> dict[str, Any]:
    """Remove all documents of a model."""
    model = await services.models.require(caller.owner, named(names, "modelName"), "modelName")
    removed = await services.documents.delete_all(caller.owner, model)
    return {"status": "Documents deleted", "modelName": model, "deleted": len(removed), "file_ids": removed}
