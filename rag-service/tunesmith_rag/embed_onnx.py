"""all-minilm by ONNX Runtime in this process: on a CPU several times as fast as the model server.

The vectors are those that the model server makes of the same model (cosine above 0.999), so a vector store may be
filled by the one and searched by the other.
"""

import asyncio
import functools
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

from tunesmith_rag.bert_graph import graph_of
from tunesmith_rag.embed import EmbeddingModel, Vector
from tunesmith_rag.tokens import SPECIAL_TOKENS, packaged, token_counter
from tunesmith_shared.errors import UpstreamFailed

_CALLERS = 4
"""Batches under way at once; they share the runtime's own threads, so that a search is answered between batches."""


@dataclass(frozen=True)
class _Loaded:
    session: onnxruntime.InferenceSession
    tokenizer: Tokenizer


class OnnxEmbedder:
    """Runs the embedding model whose package is installed; loads it at the first call.

    `batch` is how many texts are computed at once, `threads` how many processors that takes (0: all there are).
    """

    def __init__(self, max_tokens: int, batch: int, threads: int) -> None:
        self._max_tokens = max_tokens
        self._batch = batch
        self._processors = threads or len(os.sched_getaffinity(0))
        self._callers = ThreadPoolExecutor(_CALLERS, thread_name_prefix="embed")
        self._loading: dict[Path, asyncio.Future[_Loaded]] = {}
        self._models: dict[str, EmbeddingModel] = {}

    @staticmethod
    def has(name: str) -> bool:
        """Say whether the model `name` can be run here."""
        return packaged(name) is not None

    async def model(self, name: str, patience: float) -> EmbeddingModel:  # noqa: ARG002 - it is there, or not at all
        """Describe the model from its configuration; read once, then remembered."""
        if name not in self._models:  # reading the vocabulary takes as long as several searches
            config = json.loads((_folder(name) / "config.json").read_text(encoding="utf-8"))
            longest = min(self._max_tokens, int(config["max_position_embeddings"])) - SPECIAL_TOKENS
            self._models[name] = EmbeddingModel(name, longest, token_counter(name, {}))
        return self._models[name]

    async def embed(self, name: str, texts: Sequence[str], patience: float) -> list[Vector]:  # noqa: ARG002 - as above
        """Embed `texts`, those of about the same length together, since every batch is padded to its longest.

        Raises `UpstreamFailed` when a text is longer than the model takes.
        """
        if not texts:
            return []
        loaded = await self._load(_folder(name))
        encoded = await self._run(functools.partial(loaded.tokenizer.encode_batch, list(texts)))
        longest = max(len(encoding.ids) for encoding in encoded)
        if longest > self._max_tokens:
            raise UpstreamFailed(f"A text has {longest} tokens, and {name} takes {self._max_tokens}. Shorten it.")
        by_length = sorted(range(len(texts)), key=lambda number: len(encoded[number].ids))
        vectors: list[Vector] = [[]] * len(texts)
        for start in range(0, len(texts), self._batch):
            numbers = by_length[start : start + self._batch]
            made = await self._run(functools.partial(_vectors, loaded.session, [encoded[n] for n in numbers]))
            for number, vector in zip(numbers, made, strict=True):
                vectors[number] = vector
        return vectors

    async def close(self) -> None:
        """Wait for batches under way."""
        self._callers.shutdown(wait=True)

    async def _load(self, folder: Path) -> _Loaded:
        if folder not in self._loading:
            self._loading[folder] = asyncio.ensure_future(self._run(functools.partial(_load, folder, self._processors)))
        # Shielded: a caller that is cancelled must not take the model away from the others.
        return await asyncio.shield(self._loading[folder])

    async def _run(self, call: functools.partial[Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._callers, call)


def _folder(name: str) -> Path:
    folder = packaged(name)
    if folder is None:
        raise UpstreamFailed(f"The embedding model {name} cannot be run in this process: its package is not installed.")
    return folder


def _load(folder: Path, processors: int) -> _Loaded:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors
    # Waiting threads sleep: chat's model and other services run on the same processors.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph_of(folder), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return _Loaded(session, tokenizer)


def _vectors(session: onnxruntime.InferenceSession, encoded: Sequence[Encoding]) -> list[Vector]:
    """Return one vector a text, computed at once, padded to the longest."""
    tokens = np.zeros((len(encoded), max(len(encoding.ids) for encoding in encoded)), np.int32)
    mask = np.zeros_like(tokens)
    for row, encoding in enumerate(encoded):
        tokens[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = 1
    (vectors,) = session.run(["vectors"], {"tokens": tokens, "mask": mask})
    found: list[Vector] = vectors.tolist()
    return found
