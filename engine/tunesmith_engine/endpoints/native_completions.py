"""``/api/generate``, ``/api/chat``, ``/api/embed``, ``/api/embeddings``."""

import time
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from tunesmith_engine.answers import joined
from tunesmith_engine.embeddings import Embedded, EmbeddingInput, embed
from tunesmith_engine.endpoints.http import NDJSON, Engine, collected, json_body, json_lines, streamed, unless_gone
from tunesmith_engine.endpoints.json_response import FastJson
from tunesmith_engine.generate import answer_lines
from tunesmith_engine.inference import Inference, Job, require_embedding, require_name
from tunesmith_engine.models import Model
from tunesmith_engine.requests import ChatRequest, GenerateRequest
from tunesmith_shared.errors import BadRequest

router = APIRouter(prefix="/api", tags=["ollama"])


class EmbedRequest(BaseModel):
    """``POST /api/embed``; ``prompt`` is the field of the older ``/api/embeddings``."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    input: object = None
    prompt: str = ""
    truncate: bool = True
    dimensions: int | None = None
    options: dict[str, object] | None = None
    keep_alive: str | float | None = None

    def inputs(self) -> list[EmbeddingInput]:
        """The texts; none for an empty one. Raises BadRequest for what is no text."""
        texts = self.input if isinstance(self.input, list) else [self.input] if self.input else []
        if not all(isinstance(text, str) for text in texts):
            raise BadRequest("invalid input type", param="input")
        return list(texts)

    def width(self, model: Model) -> int | None:
        """The dimensions to shorten to; more than the model has are ignored here, as in Ollama."""
        wanted, most = self.dimensions or 0, model.header.architecture_integer("embedding_length") or 0
        return wanted if 0 < wanted < most else None


@router.post("/generate")
async def generate(
    request: Request, engine: Engine, body: Annotated[GenerateRequest, Depends(json_body(GenerateRequest))]
) -> Response:
    """Complete a prompt; without a prompt, load or unload the model."""
    return await _answer(request, engine, body)


@router.post("/chat")
async def chat(
    request: Request, engine: Engine, body: Annotated[ChatRequest, Depends(json_body(ChatRequest))]
) -> Response:
    """Answer a conversation; without messages, load or unload the model."""
    return await _answer(request, engine, body)


async def _answer(request: Request, engine: Inference, body: GenerateRequest | ChatRequest) -> Response:
    lines = answer_lines(engine, body)
    if body.stream:
        return await streamed(request, json_lines(lines), NDJSON)
    return FastJson(joined(await unless_gone(request, collected(lines))))


@router.post("/embed")
async def embed_inputs(
    request: Request, engine: Engine, body: Annotated[EmbedRequest, Depends(json_body(EmbedRequest))]
) -> Response:
    """Vectors of one or many texts."""
    started = time.monotonic_ns()
    job = await engine.prepare(body.model, body.options, body.keep_alive)
    require_embedding(job)
    inputs = body.inputs()
    found, load_ns = await unless_gone(request, _embed(engine, job, inputs, body))
    return FastJson(
        {
            "model": body.model,
            "embeddings": [np.ascontiguousarray(row) for row in found.vectors],
            "total_duration": time.monotonic_ns() - started,
            "load_duration": load_ns,
            "prompt_eval_count": found.tokens,
        }
    )


@router.post("/embeddings")
async def embed_prompt(
    request: Request, engine: Engine, body: Annotated[EmbedRequest, Depends(json_body(EmbedRequest))]
) -> Response:
    """The vector of one text, in the older form."""
    require_name(body.model)
    job = await engine.prepare(body.model, body.options, body.keep_alive)
    require_embedding(job)
    inputs: list[EmbeddingInput] = [body.prompt] if body.prompt else []
    found, _ = await unless_gone(request, _embed(engine, job, inputs, body))
    return FastJson({"embedding": found.vectors[0] if inputs else []})


async def _embed(engine: Inference, job: Job, inputs: list[EmbeddingInput], body: EmbedRequest) -> tuple[Embedded, int]:
    """The vectors, and how long loading took in nanoseconds."""
    started = time.monotonic_ns()
    async with engine.run(job) as loaded:
        load_ns = time.monotonic_ns() - started
        found = await embed(
            loaded.process, inputs, num_ctx=job.num_ctx, dimensions=body.width(job.model), truncate=body.truncate
        )
    return found, load_ns
