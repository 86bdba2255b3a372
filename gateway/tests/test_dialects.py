"""The dialects over the real engine and rag-service, with the clients that people use."""

from collections.abc import Iterator

import httpx
import ollama
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tunesmith_shared.testing import Platform

MODEL = "smollm2:135m"


@pytest.fixture
def gpt(platform: Platform) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        yield client


def test_without_a_key_every_route_is_refused(platform: Platform) -> None:
    schema = httpx.get(f"{platform.url}/openapi.json").json()
    open_routes = {"/health"}
    for path, methods in schema["paths"].items():
        for method in methods:
            if path not in open_routes:
                answer = httpx.request(method.upper(), platform.url + path.replace("{", "").replace("}", ""))
                assert answer.status_code == 401, (method, path)


def test_chat_with_the_openai_client(gpt: openai.OpenAI) -> None:
    create = gpt.chat.completions.create
    hello: ChatCompletionUserMessageParam = {"role": "user", "content": "Say hello."}
    answer = create(model=MODEL, messages=[hello], max_tokens=8, seed=1, temperature=0)
    whole = answer.choices[0].message.content
    assert whole
    stream = create(model=MODEL, messages=[hello], max_tokens=8, seed=1, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == whole


def test_an_unknown_model_names_those_there_are(gpt: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        gpt.chat.completions.create(model="nosuch", messages=[{"role": "user", "content": "x"}])
    assert MODEL in str(raised.value)
    assert raised.value.code == "model_not_found"


def test_embeddings_and_models_with_the_openai_client(gpt: openai.OpenAI) -> None:
    vectors = gpt.embeddings.create(model="all-minilm", input=["a", "b"]).data
    assert [len(vector.embedding) for vector in vectors] == [384, 384]
    assert {MODEL, "all-minilm:latest"} <= {model.id for model in gpt.models.list()}
    assert gpt.models.retrieve(MODEL).id == MODEL


def test_files_with_the_openai_client(gpt: openai.OpenAI) -> None:
    made = gpt.files.create(file=("rows.csv", b"prompt,response\na,b\n"), purpose="fine-tune")
    assert gpt.files.retrieve(made.id).bytes == 20
    assert gpt.files.content(made.id).read() == b"prompt,response\na,b\n"
    assert made.id in {file.id for file in gpt.files.list(purpose="fine-tune")}
    gpt.files.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        gpt.files.retrieve(made.id)


@pytest.mark.parametrize("name", ["../x.csv", "a/b.csv", "-rf.csv", ".hidden", "a;b.csv"])
def test_a_file_name_that_is_a_path_is_refused(client: httpx.Client, name: str) -> None:
    answer = client.post("/v1/files", files={"file": (name, b"x")}, data={"purpose": "fine-tune"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "file"


@pytest.mark.parametrize("session", [{}, {"session_id": "refused"}])
def test_what_the_model_server_refuses_is_told_with_its_own_status(
    platform: Platform, client: httpx.Client, session: dict[str, str]
) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "options": {"temperature": "hot"}}
    direct = httpx.post(f"{platform.services['engine'].url}/api/chat", json=asked)
    through = client.post("/api/chat", json={**asked, **session})
    assert (through.status_code, through.json()) == (direct.status_code, direct.json())
    assert through.status_code == 500


def test_the_ollama_client_works_unchanged(platform: Platform) -> None:
    with ollama.Client(host=platform.url, headers={"authorization": f"Bearer {platform.key}"}) as client:
        _use_ollama(client)


def _use_ollama(client: ollama.Client) -> None:
    assert MODEL in {model.model for model in client.list().models}
    parts = list(client.chat(MODEL, [{"role": "user", "content": "Hi"}], stream=True, options={"num_predict": 4}))
    assert parts[-1].done
    client.create("parrot", from_=MODEL, system="You are a parrot.")
    assert "parrot" in (client.show("parrot").modelfile or "")
    client.copy("parrot", "parrot2")
    client.delete("parrot")
    client.delete("parrot2")
    with pytest.raises(ollama.ResponseError) as raised:
        client.delete(MODEL)
    assert raised.value.status_code == 404


def test_plain_generate_keeps_a_session(client: httpx.Client) -> None:
    body = {"prompt": "My name is Ada.", "session_id": "s-1", "params": {"n_predict": 8, "seed": 1, "temp": 0}}
    first = client.post("/generate", json=body).json()
    assert first["session_id"] == "s-1"
    assert first["usage"]["completion_tokens"] <= 8
    second = client.post("/generate", json={**body, "prompt": "What is my name?"}).json()
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    roles = [message["role"] for message in client.get("/sessions/s-1").json()["messages"]]
    assert roles == ["user", "assistant"] * 2
    cleared = client.request("DELETE", "/clear_session", json={"session_id": "s-1"}).json()
    assert cleared == {"status": "Session cleared", "session_id": "s-1", "deleted_messages": 4}
    assert client.get("/sessions/s-1").status_code == 404


def test_plain_generate_streams(client: httpx.Client) -> None:
    events = client.post("/agenerate", json={"prompt": "Hi", "max_new_tokens": 6}).text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert '"done":true' in events[-2]
    assert '"usage"' in events[-2]


def test_plain_options_are_checked(client: httpx.Client) -> None:
    answer = client.post("/generate", json={"prompt": "Hi", "params": {"n_predikt": 3}})
    assert answer.status_code == 400
    assert "n_predict" in answer.json()["error"]["message"]


def test_create_model_from_an_unknown_base_names_those_there_are(client: httpx.Client) -> None:
    answer = client.post("/createModel", json={"modelName": "x", "systemTemplate": "t", "baseModel": "nosuch"})
    assert answer.status_code == 404
    assert MODEL in answer.json()["error"]["message"]


def test_a_model_is_made_used_listed_and_removed(client: httpx.Client) -> None:
    made = client.post("/createModel", json={"model_name": "pirate", "systemTemplate": "Talk like a pirate."}).json()
    assert (made["name"], made["base"], made["owner"]) == ("pirate:latest", MODEL, "admin")
    assert client.post("/generate", json={"prompt": "Hi", "model": "pirate", "max_new_tokens": 4}).status_code == 200
    assert "pirate:latest" in {model["name"] for model in client.get("/list_Models").json()["models"]}
    taken = client.post("/createModel", json={"modelName": MODEL, "systemTemplate": "x"})
    assert taken.status_code == 409
    refused = client.delete("/deleteModel", params={"modelName": MODEL})
    assert refused.status_code == 404
    assert "pirate:latest" in refused.json()["error"]["message"]
    assert client.delete("/deleteModel", params={"modelName": "pirate"}).json()["status"] == "Model deleted"


def test_a_body_over_the_limit_is_refused_before_it_is_read(client: httpx.Client) -> None:
    answer = client.post("/generate", content=b"x" * (33 * 2**20), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_services_that_are_down_are_said(client: httpx.Client) -> None:
    answer = client.get("/v1/fine_tuning/jobs")  # the worker is not part of these tests
    assert answer.status_code == 503
    assert "finetune-worker" in answer.json()["error"]["message"]
    health = client.get("/health")
    assert health.status_code == 503
    assert health.json()["dependencies"]["model server"] == "OK"


def test_several_choices_whole_and_streamed(gpt: openai.OpenAI) -> None:
    create = gpt.chat.completions.create
    hello: ChatCompletionUserMessageParam = {"role": "user", "content": "Name an animal."}
    whole = create(model=MODEL, messages=[hello], n=3, max_completion_tokens=6, seed=1, temperature=1.5)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in whole.choices}) > 1
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 18
    texts = ["", "", ""]
    for chunk in create(
        model=MODEL, messages=[hello], n=3, max_completion_tokens=6, seed=1, temperature=1.5, stream=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]


def test_the_models_own_temperature_holds_when_the_request_has_none(
    gpt: openai.OpenAI, client: httpx.Client, platform: Platform
) -> None:
    body = {"model": "steady", "from": MODEL, "parameters": {"temperature": 0.0}, "stream": False}
    assert client.post("/api/create", json=body).status_code == 200
    hello: ChatCompletionUserMessageParam = {"role": "user", "content": "Tell me a story."}
    said = {
        gpt.chat.completions.create(model="steady", messages=[hello], max_tokens=12, seed=seed)
        .choices[0]
        .message.content
        for seed in (1, 2, 3)
    }
    assert len(said) == 1
