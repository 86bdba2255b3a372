"""Listing, describing, creating, copying and deleting models, and uploading blobs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import ollama
import pytest

from .conftest import CHAT, EMBEDDING, Engine, write_adapter

EXACT: dict[str, Any] = {"temperature": 0, "seed": 1, "num_predict": 12}


def _gguf(engine: Engine) -> bytes:
    return Path(engine.show_path(CHAT)).read_bytes()


def test_tags_and_show_describe_the_seeded_models(engine: Engine) -> None:
    listed = {model.model: model for model in engine.ollama.list().models}
    chat = listed[CHAT]
    assert chat.details is not None
    assert (chat.details.parameter_size, chat.details.quantization_level) == ("134.52M", "Q8_0")
    manifest = engine.models_dir / "manifests/registry.ollama.ai/library/smollm2/135m"
    assert chat.digest == hashlib.sha256(manifest.read_bytes()).hexdigest()
    layers = json.loads(manifest.read_bytes())
    assert chat.size == layers["config"]["size"] + sum(layer["size"] for layer in layers["layers"])

    shown = engine.ollama.show(CHAT)
    assert shown.capabilities == ["completion"]
    assert "im_start" in (shown.template or "")
    assert 'stop                           "<|im_end|>"' in (shown.parameters or "")
    assert shown.modelinfo is not None
    assert shown.modelinfo["general.parameter_count"] == 134515008
    assert shown.modelinfo["tokenizer.ggml.tokens"] is None
    assert not {"general.name", "tokenizer.chat_template"} & set(shown.modelinfo)
    tensors = engine.http.post("/api/show", json={"model": CHAT}).json()["tensors"]
    assert {"name": "token_embd.weight", "type": "Q8_0", "shape": [576, 49152]} in tensors
    assert engine.http.post("/api/show", json={"model": CHAT, "system": "Be brief."}).json()["system"] == "Be brief."
    assert engine.ollama.show(EMBEDDING.upper()).capabilities == ["embedding"]


def test_version_is_that_of_the_api(engine: Engine) -> None:
    assert engine.http.get("/api/version").json()["version"].startswith("0.33")


def test_create_from_a_model_adds_system_and_parameters(engine: Engine) -> None:
    statuses = [
        part.status
        for part in engine.ollama.create(
            model="Pirate", from_=CHAT, system="You are a pirate.", parameters={"num_predict": 5}, stream=True
        )
    ]
    assert statuses[-2:] == ["writing manifest", "success"]
    assert any((status or "").startswith("using existing layer sha256:") for status in statuses)
    assert any((status or "").startswith("creating new layer sha256:") for status in statuses)

    shown = engine.http.post("/api/show", json={"model": "pirate"}).json()
    assert shown["system"] == "You are a pirate."
    assert shown["details"]["parent_model"] == CHAT
    assert "num_predict                    5" in shown["parameters"]
    assert "<|im_end|>" in shown["parameters"], "the parent's parameters are kept"
    answer = engine.ollama.chat("pirate", [{"role": "user", "content": "Tell me a long story."}])
    assert answer.done_reason == "length"
    assert answer.eval_count == 5
    assert engine.show_path("pirate") == engine.show_path(CHAT), "the weights are shared"
    engine.ollama.delete("PIRATE")
    assert "Pirate:latest" not in [model.model for model in engine.ollama.list().models]


def test_models_of_the_same_weights_share_one_process(engine: Engine) -> None:
    engine.ollama.create(model="twin", from_=CHAT, system="You are brief.")
    assert engine.process_of("twin").pid == engine.process_of(CHAT).pid
    engine.ollama.delete("twin")


def test_create_from_an_uploaded_file(engine: Engine) -> None:
    digest = engine.upload(_gguf(engine))
    answer = engine.http.post("/api/create", json={"model": "me/copy:v1", "files": {"a.gguf": digest}, "stream": False})
    assert answer.json() == {"status": "success"}
    assert "Paris" in engine.say("me/copy:v1", "Name the capital of France.", **EXACT)
    engine.ollama.delete("me/copy:v1")


def test_messages_of_a_model_come_before_the_request(engine: Engine) -> None:
    messages = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello Ada!"}]
    engine.ollama.create(model="preset", from_=CHAT, messages=messages)
    question = [{"role": "user", "content": "Hi"}]
    plain = engine.ollama.chat(CHAT, question, options=EXACT).prompt_eval_count
    preset = engine.ollama.chat("preset", question, options=EXACT).prompt_eval_count
    assert plain is not None
    assert preset is not None
    assert preset > plain
    engine.ollama.delete("preset")


def test_an_adapter_changes_the_answer_and_a_wrong_one_is_refused(engine: Engine, tmp_path: Path) -> None:
    digest = engine.ollama.create_blob(write_adapter(tmp_path / "a.gguf", "llama"))
    engine.ollama.create(model="adapted", from_=CHAT, adapters={"a.gguf": digest})
    question = "Name the capital of France."
    assert engine.say("adapted", question, **EXACT) != engine.say(CHAT, question, **EXACT)
    engine.ollama.generate("adapted", "", keep_alive=0)
    engine.ollama.delete("adapted")

    other = engine.ollama.create_blob(write_adapter(tmp_path / "b.gguf", "gemma"))
    with pytest.raises(ollama.ResponseError, match="made for 'gemma'"):
        engine.ollama.create(model="bad", from_=CHAT, adapters={"b.gguf": other})
    with pytest.raises(ollama.ResponseError, match="only one adapter is currently supported"):
        engine.ollama.create(model="bad", from_=CHAT, adapters={"a.gguf": digest, "b.gguf": other})
    with pytest.raises(ollama.ResponseError, match="holds adapter weights"):
        engine.ollama.create(model="bad", files={"b.gguf": other})


@pytest.mark.parametrize("damage", ["cut", "no GGUF", "shape"])
def test_a_broken_gguf_is_refused_before_llama_cpp_sees_it(engine: Engine, damage: str) -> None:
    whole = _gguf(engine)
    name = b"token_embd.weight"
    at = whole.index(name) + len(name)
    content = {
        "cut": whole[: len(whole) // 2],
        "no GGUF": b"PK" + whole[2:1000],
        "shape": whole[: at + 12] + (1 << 40).to_bytes(8, "little") + whole[at + 20 :],
    }[damage]
    digest = engine.upload(content)
    before = engine.http.get("/api/tags").json()
    response = engine.http.post("/api/create", json={"model": "broken", "files": {"x.gguf": digest}})
    assert response.status_code == 400
    assert response.json()["error"].startswith("invalid GGUF file: ")
    assert engine.http.get("/api/tags").json() == before


def test_a_model_with_only_a_go_template_is_refused_with_the_reason(engine: Engine) -> None:
    content = _gguf(engine).replace(b"tokenizer.chat_template", b"tokenizer.chat_tempIate")
    digest = engine.upload(content)
    engine.ollama.create(model="bare", files={"x.gguf": digest})
    assert engine.ollama.generate("bare", "Once upon a", options=EXACT).prompt_eval_count == 3

    with pytest.raises(ollama.ResponseError, match="leave 'template' out"):
        engine.ollama.create(model="bare", from_=CHAT, template="{{ .Prompt }}")
    _add_template_layer(engine, "bare")
    with pytest.raises(ollama.ResponseError, match="only a Go template"):
        engine.ollama.chat("bare", [{"role": "user", "content": "x"}])
    engine.ollama.delete("bare")


def _add_template_layer(engine: Engine, name: str) -> None:
    """What a model that was pulled by a real Ollama has."""
    digest = engine.upload(b"{{ .Prompt }}")
    path = engine.models_dir / f"manifests/registry.ollama.ai/library/{name}/latest"
    manifest = json.loads(path.read_bytes())
    layer = {"mediaType": "application/vnd.ollama.image.template", "digest": digest, "size": 13}
    manifest["layers"].append(layer)
    path.write_text(json.dumps(manifest))


REFUSED_CREATES = {
    "no name": ({"from": CHAT}, 400, "invalid model name"),
    "bad name": ({"model": "a/../b", "from": CHAT}, 400, "invalid model name"),
    "nothing": ({"model": "x"}, 400, "neither 'from' or 'files' was specified"),
    "bad digest": ({"model": "x", "files": {"a": "sha256:12"}}, 400, "invalid digest format"),
    "missing blob": ({"model": "x", "files": {"a": "sha256:" + "0" * 64}}, 400, "upload it"),
    "unknown base": ({"model": "x", "from": "nosuch"}, 404, "model 'nosuch' not found"),
    "parameter type": ({"model": "x", "from": CHAT, "parameters": {"top_k": "x"}}, 500, "must be of type integer"),
    "quantize to what": ({"model": "x", "from": CHAT, "quantize": "Q4"}, 400, "unsupported quantization type Q4 - "),
    "quantize of what": ({"model": "x", "from": CHAT, "quantize": "q4_K_M"}, 400, "and this one is Q8_0: "),
}


@pytest.mark.parametrize("case", REFUSED_CREATES)
def test_a_create_that_cannot_be_is_refused(engine: Engine, case: str) -> None:
    body, status, text = REFUSED_CREATES[case]
    response = engine.http.post("/api/create", json=body)
    assert response.status_code == status
    assert text in response.json()["error"]


def test_blobs_are_checked_and_known(engine: Engine) -> None:
    digest = "sha256:" + hashlib.sha256(b"content").hexdigest()
    assert engine.http.head(f"/api/blobs/{digest}").status_code == 404
    assert engine.http.post(f"/api/blobs/{digest}", content=b"other").status_code == 400
    assert engine.http.post(f"/api/blobs/{digest}", content=b"content").status_code == 201
    assert engine.http.post(f"/api/blobs/{digest}", content=b"unread").status_code == 200
    assert engine.http.head(f"/api/blobs/{digest}").status_code == 200
    assert engine.http.head("/api/blobs/sha256:12").status_code == 400


def test_copy_and_delete(engine: Engine) -> None:
    engine.ollama.copy(CHAT, "second:one")
    engine.ollama.delete("second:one")
    with pytest.raises(ollama.ResponseError, match='model "nosuch" not found') as copied:
        engine.ollama.copy("nosuch", "x")
    for source, destination, text in (("../x", "y", 'source "../x" is'), (CHAT, "a/../b", 'destination "a/../b" is')):
        with pytest.raises(ollama.ResponseError, match=text) as refused:
            engine.ollama.copy(source, destination)
        assert refused.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="model 'nosuch' not found") as deleted:
        engine.ollama.delete("nosuch")
    assert (copied.value.status_code, deleted.value.status_code) == (404, 404)
    assert CHAT in [model.model for model in engine.ollama.list().models]


def test_a_model_deleted_while_loaded_is_gone_for_new_requests(engine: Engine) -> None:
    engine.ollama.create(model="gone", from_=CHAT, parameters={"num_ctx": 192})
    engine.ollama.generate("gone", "")
    engine.ollama.delete("gone")
    with pytest.raises(ollama.ResponseError, match="not found"):
        engine.ollama.generate("gone", "x")


def test_show_gives_the_vocabulary_when_it_is_asked_for(engine: Engine) -> None:
    def info(**asked: bool) -> dict[str, list[str] | None]:
        answer = engine.http.post("/api/show", json={"model": EMBEDDING, **asked}).json()
        shown: dict[str, list[str] | None] = answer["model_info"]
        return shown

    assert info()["tokenizer.ggml.tokens"] is None
    tokens = info(verbose=True)["tokenizer.ggml.tokens"]
    assert tokens is not None
    assert "[PAD]" in tokens
    assert len(tokens) == 30522
