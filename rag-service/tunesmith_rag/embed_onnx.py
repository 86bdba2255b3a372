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

_BATCH_TOKENS = 256
"""Tokens computed at once by one processor: enough to keep it busy, few enough to stay in its cache, and a search that
comes meanwhile waits for no more than these.
"""


@dataclass(frozen=True)
class _Loaded:
    session: onnxruntime.InferenceSession
    tokenizer: Tokenizer


class OnnxEmbedder:
    """Runs the embedding model whose package is installed; loads it at the first call.

    `batch` is how many texts are computed at once at the most, `threads` how many processors work (0: all there are):
    each on a batch of its own, which takes less time than all of them on one, since none waits for the others.
    """

    def __init__(self, max_tokens: int, batch: int, threads: int) -> None:
        self._max_tokens = max_tokens
        self._batch = batch
        self._processors = threads or len(os.sched_getaffinity(0))
        self._callers = ThreadPoolExecutor(self._processors, thread_name_prefix="embed")
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
        vectors: list[Vector] = [[]] * len(texts)
        batches = iter(_batches([len(encoding.ids) for encoding in encoded], self._batch))

        async def work() -> None:
            for numbers in batches:
                made = await self._run(functools.partial(_vectors, loaded.session, [encoded[n] for n in numbers]))
                for number, vector in zip(numbers, made, strict=True):
                    vectors[number] = vector

        # Each worker has one batch at a processor, so that what other callers ask for comes between them.
        async with asyncio.TaskGroup() as group:
            for _ in range(self._processors):
                group.create_task(work())
        return vectors

    async def close(self) -> None:
        """Wait for batches under way."""
        self._callers.shutdown(wait=True)

    async def _load(self, folder: Path) -> _Loaded:
        if folder not in self._loading:
            self._loading[folder] = asyncio.ensure_future(self._run(functools.partial(_load, folder)))
        # Shielded: a caller that is cancelled must not take the model away from the others.
        return await asyncio.shield(self._loading[folder])

    async def _run(self, call: functools.partial[Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._callers, call)


def _folder(name: str) -> Path:
    folder = packaged(name)
    if folder is None:
        raise UpstreamFailed(f"The embedding model {name} cannot be run in this process: its package is not installed.")
    return folder


def _load(folder: Path) -> _Loaded:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the caller's own thread
    session = onnxruntime.InferenceSession(graph_of(folder), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return _Loaded(session, tokenizer)


def _batches(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return the numbers of texts of these `lengths` in batches of at most `most`, the longest texts first.

    Texts of about the same length are together, since every batch is padded to its longest; the short ones come last,
    so that all processors end at about the same time.
    """
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        last = batches[-1] if batches else []
        if last and len(last) < most and (len(last) + 1) * lengths[last[0]] <= _BATCH_TOKENS:
            last.append(number)
        else:
            batches.append([number])
    return batches


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
