"""Which embedder makes a vector: the one place that decides."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Literal

from tunesmith_rag.embed import Embedder, EmbeddingModel, OllamaEmbedder, Vector
from tunesmith_rag.embed_openvino import OpenVinoEmbedder

_logger = logging.getLogger(__name__)

Way = Literal["auto", "in_process", "ollama"]

_ASK_AGAIN_SECONDS = 60.0


class ChosenEmbedder:
    """Embeds in this process, or at the model server.

    A model whose package is not installed is the model server's. For the others `way` decides; `auto` takes the model
    server when it has models on a GPU, and this process otherwise.
    """

    def __init__(self, way: Way, here: OpenVinoEmbedder, server: OllamaEmbedder) -> None:
        self._way = way
        self._here = here
        self._server = server
        self._on_gpu, self._asked = False, float("-inf")

    async def model(self, name: str, patience: float) -> EmbeddingModel:
        """Return what is known about the embedding model `name`."""
        return await (await self._of(name)).model(name, patience)

    async def embed(self, name: str, texts: Sequence[str], patience: float) -> list[Vector]:
        """Return one vector a text, in order."""
        return await (await self._of(name)).embed(name, texts, patience)

    async def prepare(self, name: str) -> None:
        """Load the model `name` if it runs in this process; a model server loads its own."""
        if await self._of(name) is self._here:
            await self._here.prepare(name)

    async def close(self) -> None:
        """Close both."""
        await self._here.close()
        await self._server.close()

    async def _of(self, name: str) -> Embedder:
        if self._way == "ollama" or not self._here.has(name):
            return self._server
        if self._way == "auto" and await self._server_has_gpu():
            return self._server
        return self._here

    async def _server_has_gpu(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._on_gpu and now - self._asked > _ASK_AGAIN_SECONDS:
            self._asked = now
            self._on_gpu = await self._server.on_gpu()
            _logger.info("all-minilm runs %s", "at the model server, on its GPU" if self._on_gpu else "in this process")
        return self._on_gpu
