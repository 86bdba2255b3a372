"""The plain dialect: fine-tuning from two CSV files in one request."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import FormData, UploadFile

from tunesmith_gateway.dependencies import GatewayServices, Services, Trainer
from tunesmith_gateway.endpoints.spelling import snake
from tunesmith_gateway.keys import Caller
from tunesmith_shared.errors import BadRequest, TunesmithError

router = APIRouter(tags=["plain"])

# The form's hyperparameters to the job's.
_HYPERPARAMETERS = {
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_checkpointing": "gradient_checkpointing",
    "epochs": "n_epochs",
    "learning_rate": "learning_rate",
    "lora_rank": "lora_rank",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "packing": "packing",
    "batch_size": "batch_size",
}
_OTHERS = ("train_file", "eval_file", "model_name", "base_model", "method")
_WORDS = {"true": True, "false": False}


@router.post("/fine_tune_model")
async def fine_tune_model(request: Request, services: GatewayServices, caller: Trainer) -> dict[str, Any]:
    """Start a fine-tuning job from a training file and, if there is one, an evaluation file."""
    async with request.form(max_files=4, max_fields=32) as form:
        fields = _fields(form)
        train = _upload(fields, "train_file")
        if train is None:
            raise BadRequest("train_file is missing: send the training CSV as a multipart file.", param="train_file")
        files = [await services.files.create(caller.owner, train, "fine-tune")]
        if (evaluation := _upload(fields, "eval_file")) is not None:
            files.append(await services.files.create(caller.owner, evaluation, "fine-tune"))
    try:
        body = _job(fields, services.settings.default_model, [file.id for file in files])
        job: dict[str, Any] = await services.worker.call("POST", "/v1/fine_tuning/jobs", owner=caller.owner, body=body)
    except TunesmithError:
        await _discard(services, caller, [file.id for file in files])
        raise
    return job


def _fields(form: FormData) -> dict[str, Any]:
    fields = {snake(name): value for name, value in form.multi_items()}
    unknown = sorted(set(fields) - set(_HYPERPARAMETERS) - set(_OTHERS))
    if unknown:
        known = ", ".join([*_OTHERS, *_HYPERPARAMETERS])
        raise BadRequest(f"Unknown fields: {', '.join(unknown)}. Known are: {known}.", param=unknown[0])
    return fields


def _upload(fields: dict[str, Any], name: str) -> Any:
    value = fields.get(name)
    if value is not None and not isinstance(value, UploadFile):
        raise BadRequest(f"{name} must be a file (with curl: -F {name}=@train.csv).", param=name)
    return value


def _job(fields: dict[str, Any], default_base: str, file_ids: list[str]) -> dict[str, Any]:
    name = fields.get("model_name")
    if not isinstance(name, str) or not name.strip():
        raise BadRequest("modelName is missing: the name that the new model will answer under.", param="modelName")
    chosen = {_HYPERPARAMETERS[key]: _value(value) for key, value in fields.items() if key in _HYPERPARAMETERS}
    method = str(fields.get("method", "supervised"))
    return {
        "model": str(fields.get("base_model") or default_base),
        "model_name": name.strip(),
        "training_file": file_ids[0],
        "validation_file": file_ids[1] if len(file_ids) > 1 else None,
        "method": {"type": method, method: {"hyperparameters": chosen}},
    }


def _value(text: str) -> bool | int | float | str:
    """Return a form's text as the JSON value that it spells; what it spells is checked by the worker."""
    lowered = text.strip().lower()
    if lowered in _WORDS:
        return _WORDS[lowered]
    for kind in (int, float):
        try:
            return kind(lowered)
        except ValueError:
            continue
    return lowered


async def _discard(services: Services, caller: Caller, file_ids: list[str]) -> None:
    """Remove the uploads of a job that was refused, so that correcting and sending again leaves no copies."""
    for file_id in file_ids:
        await services.files.delete(caller.owner, file_id)
