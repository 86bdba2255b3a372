"""The plain LangChain recipe that ingestion is measured beside: PyPDFLoader, RecursiveCharacterTextSplitter, Chroma.

all-minilm is behind it in one of `WAYS`, or at a model server, whose client (12 MiB) is in memory either way.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from langchain_community.document_loaders import PyPDFLoader
from langchain_community.vectorstores import Chroma
from langchain_core.embeddings import Embeddings
from langchain_ollama import OllamaEmbeddings
from langchain_text_splitters import RecursiveCharacterTextSplitter
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

from tunesmith_rag.bert_graph import graph_of
from tunesmith_rag.openvino_cpu import Core
from tunesmith_rag.tokens import packaged

MODEL, BATCH = "all-minilm", 8

Compute = Callable[[Any, Any], Any]
"""Gives vectors for tokens and mask [texts, length]."""


def _by_onnx_runtime(folder: Path) -> Compute:
    session = InferenceSession(graph_of(folder), providers=["CPUExecutionProvider"])
    return lambda tokens, mask: session.run(["vectors"], {"tokens": tokens, "mask": mask})[0]


def _by_openvino(folder: Path) -> Compute:
    core = Core()
    compiled = core.compile_model(core.read_model(graph_of(folder)), "CPU")
    return lambda tokens, mask: compiled({"tokens": tokens, "mask": mask})["vectors"]


WAYS: dict[str, Callable[[Path], Compute]] = {"onnx": _by_onnx_runtime, "openvino": _by_openvino}
"""Runtimes, each without settings; `onnx`, in float32, is what Chroma's own function for this model computes with."""


class InThisProcess(Embeddings):
    """The model in this process, in the order in which the texts come, all processors on one batch after the other."""

    def __init__(self, way: str) -> None:
        folder = packaged(MODEL)
        assert folder is not None
        self._compute = WAYS[way](folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.enable_padding()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector a text."""
        parts = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
        return [vector for part in parts for vector in self._embed(part)]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        return self.embed_documents([text])[0]

    def _embed(self, texts: list[str]) -> list[list[float]]:
        encoded = self._tokenizer.encode_batch(texts)
        tokens = np.array([encoding.ids for encoding in encoded], np.int32)
        mask = np.array([encoding.attention_mask for encoding in encoded], np.int32)
        vectors: list[list[float]] = self._compute(tokens, mask).tolist()
        return vectors


def embeddings(way: str, server: str) -> Embeddings:
    """Return what embeds: one of `WAYS` in this process, or the model server at the URL `server`."""
    return OllamaEmbeddings(model=MODEL, base_url=server) if server else InThisProcess(way)


def bring_in(file: Path, folder: Path, model: Embeddings) -> int:
    """Bring `file` in as LangChain's documentation shows it, with its sizes; return the number of chunks."""
    chunks = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=200).split_documents(
        PyPDFLoader(str(file)).load()
    )
    Chroma.from_documents(chunks, model, persist_directory=str(folder / "plain"))
    return len(chunks)
