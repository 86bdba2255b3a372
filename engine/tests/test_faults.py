"""Clients that leave, model processes that die, and an engine that is killed."""

import json
import threading

import httpx
import psutil
import pytest

from tunesmith_shared.testing import wait_until

from .conftest import CHAT, EMBEDDING, WAIT_SECONDS, Engine

ENDLESS = {"num_predict": 3000, "temperature": 1.5, "seed": 1, "stop": []}
STORY = [{"role": "user", "content": "Tell me a very long story about the sea."}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": STORY, "options": ENDLESS, "stream": True}),
        ("/api/generate", {"prompt": "Once", "raw": True, "options": ENDLESS, "stream": False}),
        ("/v1/chat/completions", {"messages": STORY, "max_tokens": 3000, "temperature": 1.5, "stream": True}),
        ("/v1/completions", {"prompt": "Once", "max_tokens": 3000, "temperature": 1.5, "stream": False}),
    ],
)
def test_a_client_that_leaves_stops_the_generation(engine: Engine, path: str, body: dict[str, object]) -> None:
    connection = engine.send(path, {"model": CHAT, **body})
    wait_until(lambda: engine.busy_slots(CHAT) == 1, WAIT_SECONDS, "the generation begins")
    connection.close()
    engine.wait_idle(CHAT, WAIT_SECONDS)


def test_a_client_that_leaves_while_its_long_prompt_is_read_stops_it(engine: Engine) -> None:
    prompt = " ".join(str(number) for number in range(900))
    connection = engine.send("/api/generate", {"model": CHAT, "prompt": prompt, "raw": True, "options": ENDLESS})
    wait_until(lambda: engine.busy_slots(CHAT) == 1, WAIT_SECONDS, "the prompt is read")
    connection.close()
    engine.wait_idle(CHAT, WAIT_SECONDS)


def test_requests_of_one_model_run_beside_each_other(engine: Engine) -> None:
    connections = [engine.send("/api/chat", {"model": CHAT, "messages": STORY, "options": ENDLESS}) for _ in range(3)]
    wait_until(lambda: engine.busy_slots(CHAT) == 3, WAIT_SECONDS, "three slots are busy")
    for connection in connections:
        connection.close()
    engine.wait_idle(CHAT, WAIT_SECONDS)


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_a_killed_model_process_ends_the_stream_with_an_error_and_is_started_again(engine: Engine, path: str) -> None:
    body = {
        "model": CHAT,
        "messages": STORY,
        "options": ENDLESS,
        "max_tokens": 3000,
        "temperature": 1.5,
        "stream": True,
    }
    with engine.http.stream("POST", path, json=body) as response:
        lines = response.iter_lines()
        next(lines)
        engine.process_of(CHAT).kill()
        last = [line for line in lines if line][-1]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert "the next request starts it again" in (error if isinstance(error, str) else error["message"])

    assert "Paris" in engine.say(CHAT, "Name the capital of France.", temperature=0)


def _loaded(engine: Engine) -> list[str | None]:
    return [model.model for model in engine.ollama.ps().models]


def test_a_killed_model_process_takes_no_other_model_with_it(engine: Engine) -> None:
    other = engine.process_of(EMBEDDING)
    engine.process_of(CHAT).kill()
    wait_until(lambda: CHAT not in _loaded(engine), WAIT_SECONDS, "the engine notices")
    assert len(engine.ollama.embed(EMBEDDING, "x").embeddings[0]) == 384
    assert engine.say(CHAT, "Hi", num_predict=2)
    assert engine.process_of(EMBEDDING).pid == other.pid


def test_a_killed_model_process_fails_a_whole_answer_with_its_status(engine: Engine) -> None:
    answers: list[httpx.Response] = []
    body = {"model": CHAT, "messages": STORY, "options": ENDLESS, "stream": False}
    asking = threading.Thread(target=lambda: answers.append(engine.http.post("/api/chat", json=body)))
    asking.start()
    wait_until(lambda: engine.busy_slots(CHAT) == 1, WAIT_SECONDS, "the generation begins")
    engine.process_of(CHAT).kill()
    asking.join()
    assert answers[0].status_code == 500
    assert "the next request starts it again" in answers[0].json()["error"]


def test_model_processes_die_with_a_killed_engine_and_the_next_one_serves(own_engine: Engine) -> None:
    children = [own_engine.process_of(CHAT), own_engine.process_of(EMBEDDING)]
    own_engine.service.kill()
    _, alive = psutil.wait_procs(children, timeout=WAIT_SECONDS)
    assert alive == []

    own_engine.service.start()
    assert {"smollm2:135m", "all-minilm:latest"} <= {str(model.model) for model in own_engine.ollama.list().models}
    assert "Paris" in own_engine.say(CHAT, "Name the capital of France.", temperature=0)


def test_a_stopped_engine_leaves_no_model_process(own_engine: Engine) -> None:
    child = own_engine.process_of(CHAT)
    own_engine.service.stop()
    _, alive = psutil.wait_procs([child], timeout=WAIT_SECONDS)
    own_engine.service.start()
    assert alive == []


def test_a_damaged_blob_takes_the_model_from_the_list_and_the_next_start_repairs_it(own_engine: Engine) -> None:
    blob = own_engine.models_dir / "blobs" / own_engine.show_path(EMBEDDING).rpartition("/")[2]
    blob.unlink()
    assert [model.model for model in own_engine.ollama.list().models] == [CHAT]
    own_engine.service.stop()
    own_engine.service.start()
    wait_until(lambda: len(own_engine.ollama.list().models) == 2, WAIT_SECONDS, "all-minilm is back")
    assert len(own_engine.ollama.embed(EMBEDDING, "x").embeddings[0]) == 384
