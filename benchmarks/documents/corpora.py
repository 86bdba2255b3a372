"""What the index is filled with: texts that every checkout has, or, for sizes beyond those, vectors and words drawn.

The texts are what installed packages say about themselves (docstrings), split and embedded as documents are; the
questions are their one-line descriptions, which are not among the texts.
"""

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunesmith_rag.embed_openvino import OpenVinoEmbedder
from tunesmith_rag.near import Matrix
from tunesmith_rag.split import effective_chunking, page_splitter

MODEL, LONGEST, BATCH = "all-minilm", 256, 8
PACKAGES = ("networkx", "numpy", "pandas", "peft", "sqlalchemy", "sympy", "torch", "transformers", "trl")
LEAST_WORDS, QUESTION_WORDS, LONG_WORD = 40, range(6, 26), 4
QUESTIONS = 200

DIMENSION, CENTRES, SPREAD, COSINES = 384, 2000, 0.6, (0.95, 0.82, 0.7)
VOCABULARY, SKIPPED, CHUNK_WORDS, DRAWN_WORDS = 30_000, 100, 120, 6


@dataclass(frozen=True)
class Corpus:
    """Chunks with their vectors [chunks, dimension], and questions in several versions, the question itself first."""

    texts: list[str]
    vectors: Matrix
    questions: list[list[str]]
    versions: list[Matrix]


async def real(count: int) -> Corpus:
    """Return `count` chunks of docstrings, or as many as there are, and questions about things like them."""
    embedder = OpenVinoEmbedder(LONGEST, BATCH, 0)
    model = await embedder.model(MODEL, 0)
    split = page_splitter(effective_chunking({"type": "auto"}, model.max_tokens), model.count)
    passages: dict[str, None] = {}  # each text once, in their order
    described: list[str] = []
    for docstring in _docstrings():
        words = docstring.split()
        if len(words) >= LEAST_WORDS:
            passages.update(dict.fromkeys(split(docstring)))
        elif len(words) in QUESTION_WORDS and len(described) < QUESTIONS:
            described.append(" ".join(words))
        if len(passages) >= count and len(described) == QUESTIONS:
            break
    texts = list(passages)[:count]
    questions = [_worded(description) for description in described]
    vectors = np.asarray(await embedder.embed(MODEL, texts, 0), np.float32)
    versions = [np.asarray(await embedder.embed(MODEL, wordings, 0), np.float32) for wordings in questions]
    await embedder.close()
    return Corpus(texts, vectors, questions, versions)


def _docstrings() -> Iterator[str]:
    """Yield the docstrings of all packages, each once, file by file in an order that is mixed and always the same."""
    site = Path(sysconfig.get_paths()["purelib"])
    files = [file for package in PACKAGES for file in sorted((site / package).rglob("*.py"))]
    seen: set[str] = set()
    for number in np.random.default_rng(0).permutation(len(files)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in other people's strings
            tree = ast.parse(files[number].read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node) or ""
                if docstring not in seen:
                    seen.add(docstring)
                    yield docstring


def _worded(description: str) -> list[str]:
    """Return four versions of a question: as it is, its long words, each half."""
    words = description.split()
    half = len(words) // 2
    long = [word for word in words if len(word) >= LONG_WORD]
    return [description, " ".join(long or words), " ".join(words[:half]), " ".join(words[half:])]


def drawn(count: int) -> Corpus:
    """Return `count` chunks of words by Zipf's law, and vectors around centres, as those of texts on so many subjects.

    The versions of a question have COSINES to it. Nearest neighbours are harder to find than those of real texts:
    beyond its own centre a vector is about as far from all others.
    """
    chance = np.random.default_rng(3)
    vectors, questions = _vectors(count, 1), _vectors(QUESTIONS, 2)
    return Corpus(
        [_say(CHUNK_WORDS, chance) for _ in range(count)],
        vectors,
        [[_say(DRAWN_WORDS, chance)] for _ in questions],
        [_versions(question, chance) for question in questions],
    )


def _vectors(count: int, seed: int) -> Matrix:
    """Return `count` vectors of length 1."""
    centres = np.random.default_rng(0).normal(size=(CENTRES, DIMENSION))
    chance = np.random.default_rng(seed)
    vectors = centres[chance.integers(0, CENTRES, count)] + SPREAD * chance.normal(size=(count, DIMENSION))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _versions(question: Matrix, chance: np.random.Generator) -> Matrix:
    """Return a question and versions of it, with COSINES to it."""
    rows = [question]
    for cosine in COSINES:
        other = chance.normal(size=DIMENSION)
        other -= (other @ question) * question
        rows.append(cosine * question + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other))
    return np.asarray(rows, np.float32)


def _say(count: int, chance: np.random.Generator) -> str:
    """Return `count` words; the commonest ones, which a search leaves out, are not among them."""
    return " ".join(f"word{number}" for number in chance.choice(VOCABULARY, count, p=_WEIGHTS))


_WEIGHTS = 1 / np.arange(SKIPPED, SKIPPED + VOCABULARY)
_WEIGHTS /= _WEIGHTS.sum()
