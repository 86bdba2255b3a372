"""all-minilm by OpenVINO in this process: on a CPU several times as fast as the model server.

It computes in bfloat16 where the processor can, twice as fast as in float32, and in float32 elsewhere. The vectors of
both, and those that the model server makes of the same model, agree (cosine above 0.999), so a vector store may be
filled by the one and searched by the other.
"""

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from tunesmith_rag import prepared
from tunesmith_rag.embed import EmbeddingModel, Vector
from tunesmith_rag.openvino_cpu import Core, InferRequest
from tunesmith_rag.tokens import SPECIAL_TOKENS, packaged, token_counter
from tunesmith_rag.turns import Turns
from tunesmith_shared.errors import UpstreamFailed

_logger = logging.getLogger(__name__)

Integers = np.ndarray[Any, np.dtype[np.int32]]
Floats = np.ndarray[Any, np.dtype[np.float32]]

_BATCH_TOKENS = 384
"""Tokens computed at once by one processor: enough to keep it busy, few enough to stay in its cache, and a search that
comes meanwhile waits for no more than these.
"""

_STEP = 8
"""Lengths are padded to multiples of it: every shape of a batch costs 5 ms once, and 1.4 MiB a processor for ever."""

_QUESTIONS = [(texts, length) for texts in (1, 4) for length in (8, 16, 24)]
"""Shapes of questions, alone and with three other versions: computed once at the start, so that none is new later."""


@dataclass(frozen=True)
class _Loaded:
    tokenizer: Tokenizer
    requests: SimpleQueue[InferRequest]
    """One a processor, in which a batch is computed; each is in one thread's hands at a time."""


class OpenVinoEmbedder:
    """Runs the embedding model whose package is installed; loads it at the first call.

    `batch` is how many texts are computed at once at the most, `threads` how many processors work (0: all there are):
    each on a batch of its own, which takes less time than all of them on one, since none waits for the others.
    """

    def __init__(self, max_tokens: int, batch: int, threads: int) -> None:
        self._max_tokens = max_tokens
        self._batch = batch
        self._processors = threads or len(os.sched_getaffinity(0))
        self._turns = Turns(self._processors)
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
        encoded = await asyncio.to_thread(loaded.tokenizer.encode_batch, list(texts))
        longest = max(len(encoding.ids) for encoding in encoded)
        if longest > self._max_tokens:
            raise UpstreamFailed(f"A text has {longest} tokens, and {name} takes {self._max_tokens}. Shorten it.")
        vectors: list[Vector] = [[]] * len(texts)

        def compute(numbers: Sequence[int]) -> None:
            made = _vectors(loaded.requests, [encoded[number] for number in numbers])
            for number, vector in zip(numbers, made, strict=True):
                vectors[number] = vector

        await self._turns.each(compute, _batches([len(encoding.ids) for encoding in encoded], self._batch))
        return vectors

    async def prepare(self, name: str) -> None:
        """Load the model, and compute once what questions look like, so that the first search is as fast as others."""
        loaded = await self._load(_folder(name))
        for texts, length in _QUESTIONS * self._processors:
            ones = np.ones((texts, length), np.int32)
            await asyncio.to_thread(_compute, loaded.requests, ones, ones)

    async def close(self) -> None:
        """Wait for batches under way."""
        self._turns.close()

    async def _load(self, folder: Path) -> _Loaded:
        if folder not in self._loading:
            load = asyncio.to_thread(_load, folder, self._processors)
            self._loading[folder] = asyncio.ensure_future(load)
        try:
            # Shielded: a caller that is cancelled must not take the model away from the others.
            return await asyncio.shield(self._loading[folder])
        except Exception:
            self._loading.pop(folder, None)  # there may be more memory the next time
            raise


def _folder(name: str) -> Path:
    folder = packaged(name)
    if folder is None:
        raise UpstreamFailed(f"The embedding model {name} cannot be run in this process: its package is not installed.")
    return folder


def _load(folder: Path, processors: int) -> _Loaded:
    """Compile the model for one batch a processor at a time; which processor is left to the system: others use them."""
    core = Core()
    settings = {"NUM_STREAMS": processors, "INFERENCE_NUM_THREADS": processors, "ENABLE_CPU_PINNING": False}
    compiled = core.compile_model(prepared.read(core, folder), "CPU", settings)
    requests: SimpleQueue[InferRequest] = SimpleQueue()
    for _ in range(processors):
        requests.put(compiled.create_infer_request())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    _logger.info("the embedding model is loaded: OpenVINO, %s, processors: %d", precision, processors)
    return _Loaded(tokenizer, requests)


def _padded(length: int) -> int:
    """Return `length`, rounded up to a multiple of `_STEP`."""
    return -(-length // _STEP) * _STEP


def _batches(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Return the numbers of texts of these `lengths` in batches of at most `most`, the longest texts first.

    Texts of about the same length are together, since every batch is padded to its longest; the short ones come last,
    so that all processors end at about the same time.
    """
    batches: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        last = batches[-1] if batches else []
        if last and len(last) < most and (len(last) + 1) * _padded(lengths[last[0]]) <= _BATCH_TOKENS:
            last.append(number)
        else:
            batches.append([number])
    return batches


def _vectors(requests: SimpleQueue[InferRequest], encoded: Sequence[Encoding]) -> list[Vector]:
    """Return one vector a text, computed at once, padded to the longest."""
    tokens = np.zeros((len(encoded), _padded(max(len(encoding.ids) for encoding in encoded))), np.int32)
    mask = np.zeros_like(tokens)
    for row, encoding in enumerate(encoded):
        tokens[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = 1
    vectors = _compute(requests, tokens, mask)
    # Their length is 1 to the precision that they were computed in only.
    found: list[Vector] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).tolist()
    return found


def _compute(requests: SimpleQueue[InferRequest], tokens: Integers, mask: Integers) -> Floats:
    """Run the model on `tokens` and `mask` [texts, length]; vectors [texts, hidden size]."""
    request = requests.get()
    try:
        vectors: Floats = request.infer({"tokens": tokens, "mask": mask})["vectors"]
    finally:
        requests.put(request)
    return vectors
