"""Several choices of one request: the texts that as many requests give, from one reading of the prompt."""

import json
import threading
from typing import Any

import pytest

from tunesmith_shared.testing import wait_until

from .conftest import CHAT, WAIT_SECONDS, Engine

ASKED: dict[str, Any] = {
    "model": CHAT,
    "messages": [{"role": "user", "content": "Invent a name for a boat."}],
    "max_tokens": 12,
    "temperature": 1.2,
}
ENDLESS: dict[str, Any] = {**ASKED, "max_tokens": 3000, "temperature": 1.5}


def _post(engine: Engine, **more: Any) -> dict[str, Any]:
    response = engine.http.post("/v1/chat/completions", json={**ASKED, **more})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def _texts(answer: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in answer["choices"]]


def test_more_choices_than_slots_are_those_of_single_requests_with_the_seeds_that_follow(engine: Engine) -> None:
    answer = _post(engine, n=6, seed=3)
    singles = [_post(engine, seed=3 + number) for number in range(6)]
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    pairs = list(zip(_texts(answer), [text for single in singles for text in _texts(single)], strict=True))
    # What is read while others generate is cut into other pieces, whose sums round differently: by up to a tenth of a
    # logprob on this model. At this temperature that can change the text of a choice that starts beside others.
    assert sum(together == alone for together, alone in pairs) >= len(pairs) - 1
    assert len(set(_texts(answer))) > 1
    assert 6 < answer["usage"]["completion_tokens"] <= 6 * ASKED["max_tokens"]
    assert answer["usage"]["prompt_tokens"] == singles[0]["usage"]["prompt_tokens"]
    assert engine.busy_slots(CHAT) == 0


def test_choices_take_ollamas_options_and_are_the_answers_of_its_own_chat_with_them(engine: Engine) -> None:
    options = {"temperature": 1.2, "top_k": 7, "repeat_penalty": 1.3, "num_predict": 12, "seed": 3}
    asked = {"model": CHAT, "messages": ASKED["messages"]}
    answer = engine.http.post("/v1/chat/completions", json={**asked, "n": 3, "options": options}).json()
    singles = []
    for number in range(3):
        body = {**asked, "options": {**options, "seed": 3 + number}, "stream": False}
        singles.append(engine.http.post("/api/chat", json=body).json()["message"]["content"])
    assert _texts(answer) == singles
    refused = engine.http.post("/v1/chat/completions", json={**asked, "options": {"top_k": "many"}})
    assert "top_k" in refused.json()["error"]["message"]


def test_a_stream_names_the_choice_in_each_chunk_and_counts_all_tokens_at_its_end(engine: Engine) -> None:
    whole = _post(engine, n=5, seed=8)
    body = {**ASKED, "n": 5, "seed": 8, "stream": True, "stream_options": {"include_usage": True}}
    lines = [line for line in engine.http.post("/v1/chat/completions", json=body).text.split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    *chunks, last = [json.loads(line.removeprefix("data: ")) for line in lines]
    texts = dict.fromkeys(range(5), "")
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    assert list(texts.values()) == _texts(whole)
    assert {(chunk["id"], chunk["model"]) for chunk in [*chunks, last]} == {(last["id"], CHAT)}
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], whole["usage"]["completion_tokens"])


def test_choices_of_a_bare_prompt(engine: Engine) -> None:
    answer = engine.openai.completions.create(model=CHAT, prompt="Once upon a time", n=2, max_tokens=4, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.text for choice in answer.choices)


def test_choices_end_where_the_context_does_and_a_long_prompt_is_cut_or_refused(engine: Engine) -> None:
    engine.ollama.create(model="narrow-choices", from_=CHAT, parameters={"num_ctx": 256})
    schema = {"type": "json_schema", "json_schema": {"name": "long", "schema": {"type": "string", "minLength": 2000}}}
    endless = _post(engine, model="narrow-choices", n=2, seed=1, max_tokens=600, response_format=schema)
    assert {choice["finish_reason"] for choice in endless["choices"]} == {"length"}
    prompt = endless["usage"]["prompt_tokens"]
    assert endless["usage"]["completion_tokens"] == 2 * (256 - prompt - 1)

    long = [{"role": "user", "content": "word " * 600}]
    cut = _post(engine, model="narrow-choices", n=2, messages=long, max_tokens=4)
    assert cut["usage"]["prompt_tokens"] < 256
    refused = engine.http.post(
        "/v1/chat/completions",
        json={**ASKED, "model": "narrow-choices", "n": 2, "messages": long, "truncate": False},
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    engine.ollama.generate("narrow-choices", "", keep_alive=0)
    engine.ollama.delete("narrow-choices")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_every_choice(engine: Engine, stream: bool) -> None:
    connection = engine.send("/v1/chat/completions", {**ENDLESS, "n": 3, "stream": stream})
    wait_until(lambda: engine.busy_slots(CHAT) == 3, WAIT_SECONDS, "three choices are generated")
    connection.close()
    engine.wait_idle(CHAT, WAIT_SECONDS)


def test_single_requests_get_their_turn_among_groups(engine: Engine) -> None:
    answers: list[dict[str, Any]] = []
    groups = [
        threading.Thread(target=lambda: answers.append(_post(engine, n=6, max_tokens=24, seed=1))) for _ in range(2)
    ]
    for group in groups:
        group.start()
    wait_until(lambda: engine.busy_slots(CHAT) == 4, WAIT_SECONDS, "the groups fill every slot")
    assert _texts(_post(engine, seed=1))
    for group in groups:
        group.join()
    assert [len(answer["choices"]) for answer in answers] == [6, 6]


@pytest.mark.parametrize("count", [0, -1, 129, "two"])
def test_an_impossible_number_of_choices_is_refused(engine: Engine, count: object) -> None:
    response = engine.http.post("/v1/chat/completions", json={**ASKED, "n": count})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "n")
