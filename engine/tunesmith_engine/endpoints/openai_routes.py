"""``/v1``: chat completions, completions, embeddings, models."""

import asyncio
import base64
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from tunesmith_engine.embeddings import Embedded, EmbeddingInput, embed
from tunesmith_engine.endpoints.http import EVENT_STREAM, Engine, json_body, streamed, unless_gone
from tunesmith_engine.endpoints.json_response import FastJson
from tunesmith_engine.inference import Inference, Job, require_embedding
from tunesmith_engine.models import Json
from tunesmith_engine.openai import event_bytes, whole_answer
from tunesmith_engine.openai_requests import (
    OpenAIChatRequest,
    OpenAIRequest,
    OpenAITextRequest,
    prepare_chat,
    prepare_text,
)
from tunesmith_engine.options import Options

router = APIRouter(prefix="/v1", tags=["openai"])


class EmbeddingsRequest(BaseModel):
    """``POST /v1/embeddings``: a text, texts, tokens, or lists of tokens."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    truncate: bool = True

    def inputs(self) -> list[EmbeddingInput]:
        """The inputs one by one."""
        if isinstance(self.input, str):
            return [self.input]
        if self.input and isinstance(self.input[0], int):
            return [self.input]
        return list(self.input)  # type: ignore[arg-type]


@router.post("/chat/completions")
async def chat_completions(
    request: Request, engine: Engine, body: Annotated[OpenAIChatRequest, Depends(json_body(OpenAIChatRequest))]
) -> Response:
    """Answer a conversation."""
    job, llama_body = await prepare_chat(engine, body)
    return await _answer(request, engine, job, llama_body, body)


@router.post("/completions")
async def completions(
    request: Request, engine: Engine, body: Annotated[OpenAITextRequest, Depends(json_body(OpenAITextRequest))]
) -> Response:
    """Complete a prompt."""
    job, llama_body = await prepare_text(engine, body)
    return await _answer(request, engine, job, llama_body, body)


async def _answer(request: Request, engine: Inference, job: Job, llama_body: Options, body: OpenAIRequest) -> Response:
    if body.stream:
        return await streamed(request, event_bytes(engine, job, llama_body, body), EVENT_STREAM)
    return FastJson(await unless_gone(request, whole_answer(engine, job, llama_body, body)))


@router.post("/embeddings")
async def embeddings(
    request: Request, engine: Engine, body: Annotated[EmbeddingsRequest, Depends(json_body(EmbeddingsRequest))]
) -> Response:
    """Vectors of texts."""
    job = await engine.prepare(body.model, None, None)
    require_embedding(job)
    found = await unless_gone(request, _embed(engine, job, body))
    rows = [np.ascontiguousarray(row) for row in found.vectors]
    coded = [base64.b64encode(row.tobytes()).decode() for row in rows] if body.encoding_format == "base64" else rows
    return FastJson(
        {
            "object": "list",
            "data": [{"object": "embedding", "embedding": row, "index": index} for index, row in enumerate(coded)],
            "model": body.model,
            "usage": {"prompt_tokens": found.tokens, "total_tokens": found.tokens},
        }
    )


async def _embed(engine: Inference, job: Job, body: EmbeddingsRequest) -> Embedded:
    async with engine.run(job) as loaded:
        return await embed(
            loaded.process,
            body.inputs(),
            num_ctx=job.num_ctx,
            dimensions=body.dimensions,
            truncate=body.truncate,
        )


@router.get("/models")
async def models(engine: Engine) -> Response:
    """The models there are."""
    stored = await asyncio.to_thread(engine.catalog.store.list)
    return FastJson({"object": "list", "data": [_model(item.name.display, item.modified_at) for item in stored]})


@router.get("/models/{name:path}")
async def model(engine: Engine, name: str) -> Response:
    """One model."""
    found = await engine.catalog.get(name)
    return FastJson(_model(name, found.modified_at))


def _model(name: str, created: float) -> Json:
    return {"id": name, "object": "model", "created": int(created), "owned_by": "library"}
