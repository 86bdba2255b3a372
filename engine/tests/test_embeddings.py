"""The embedding model: its conversion, its vectors, and long inputs."""

import hashlib
from pathlib import Path

import gguf
import numpy as np
import ollama
import pytest

from .conftest import CHAT, EMBEDDING, Engine

# Of the GGUF that llama.cpp's own convert_hf_to_gguf.py (--outtype f16) makes of the same model: names, types,
# shapes and data of all tensors in the order of their names.
CONVERTER_TENSORS_SHA256 = "a6d6a101dfc49c85612268a520249eb8aed763c71956a336df3d70f944a85550"

# The first six of 384 values that transformers 5.23 gives in float32: mean of the last layer, length one.
REFERENCE = {
    "hello world": [-0.03448, 0.03102, 0.00673, 0.02611, -0.03936, -0.1603],
    "The quick brown fox jumps over the lazy dog.": [0.04393, 0.05893, 0.04818, 0.07755, 0.02674, -0.03763],
    "Straße, naïve café — déjà vu!": [0.06052, 0.03769, -0.00681, 0.01727, -0.00337, 0.03705],
    "def f(x): return x**2 + 3": [-0.05177, 0.04617, -0.04199, 0.0127, -0.04716, -0.04635],
    "日本語のテキストと中文文本": [0.02171, 0.14247, 0.09551, -0.02523, -0.06952, 0.04828],
    "1234567890 3.14159": [-0.00768, -0.04694, 0.00665, -0.01701, -0.09239, 0.03775],
    "Ünïcödé ÀÉÎ and UPPER lower": [-0.01071, 0.03997, 0.06548, -0.05061, -0.06058, -0.08152],
    "long text " * 400: [0.05897, -0.00787, 0.07512, 0.0102, -0.04171, 0.03101],
}


def test_the_conversion_has_the_tensors_of_llama_cpps_converter(engine: Engine) -> None:
    reader = gguf.GGUFReader(Path(engine.show_path(EMBEDDING)))
    content = hashlib.sha256()
    for tensor in sorted(reader.tensors, key=lambda tensor: tensor.name):
        shape = [int(number) for number in tensor.shape]
        content.update(f"{tensor.name} {tensor.tensor_type.name} {shape}\n".encode())
        content.update(tensor.data.tobytes())
    assert content.hexdigest() == CONVERTER_TENSORS_SHA256


def test_vectors_are_those_of_the_reference_implementation(engine: Engine) -> None:
    answer = engine.ollama.embed(EMBEDDING, list(REFERENCE))
    vectors = np.array(answer.embeddings)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert np.allclose(vectors[:, :6], list(REFERENCE.values()), atol=1e-3)


def test_the_older_route_gives_the_same_vector(engine: Engine) -> None:
    old = engine.ollama.embeddings(EMBEDDING, "hello world").embedding
    new = engine.ollama.embed(EMBEDDING, "hello world").embeddings[0]
    assert np.allclose(old, new, atol=1e-4)


@pytest.mark.parametrize("words", [600, 6000], ids=["longer than the context", "longer than a batch"])
def test_a_long_input_is_cut_or_refused(engine: Engine, words: int) -> None:
    long = "word " * words
    cut = engine.ollama.embed(EMBEDDING, ["short", long])
    assert cut.prompt_eval_count == 3 + 256
    with pytest.raises(ollama.ResponseError, match=f"{words + 2} tokens and the context holds 256") as caught:
        engine.ollama.embed(EMBEDDING, long, truncate=False)
    assert caught.value.status_code == 400


def test_empty_inputs_have_answers(engine: Engine) -> None:
    assert engine.ollama.embed(EMBEDDING, []).embeddings == []
    assert engine.ollama.embed(EMBEDDING, "").embeddings == []
    assert len(engine.ollama.embed(EMBEDDING, ["", "x"]).embeddings[0]) == 384
    assert engine.ollama.embeddings(EMBEDDING, "").embedding == []


def test_dimensions_shorten_and_more_than_there_are_are_ignored(engine: Engine) -> None:
    assert [len(engine.ollama.embed(EMBEDDING, "x", dimensions=n).embeddings[0]) for n in (8, 384, 500)] == [
        8,
        384,
        384,
    ]


@pytest.mark.parametrize("given", [1, {"text": "x"}, ["x", 1]])
def test_what_is_no_text_is_refused(engine: Engine, given: object) -> None:
    response = engine.http.post("/api/embed", json={"model": EMBEDDING, "input": given})
    assert (response.status_code, response.json()) == (400, {"error": "invalid input type"})


@pytest.mark.parametrize(("path", "field"), [("/api/embed", "input"), ("/api/embeddings", "prompt")])
def test_a_chat_model_does_not_embed(engine: Engine, path: str, field: str) -> None:
    response = engine.http.post(path, json={"model": CHAT, field: "x"})
    assert response.status_code == 501
    assert "does not support embeddings" in response.json()["error"]
