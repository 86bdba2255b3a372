"""Histories that outgrow the context of a real model."""

import httpx

MODEL = "smollm2:135m"


def test_a_long_session_is_trimmed_by_the_models_own_counts(client: httpx.Client) -> None:
    words = "The lighthouse stands on a rock in the sea and its lamp turns every night. " * 6
    omitted, prompts = [], []
    for number in range(6):
        body = {
            "model": MODEL,
            "prompt": f"{number}. {words}",
            "session_id": "long",
            "params": {"ctx_size": 512, "n_predict": 8, "temp": 0},
        }
        answer = client.post("/generate", json=body)
        assert answer.status_code == 200, answer.text
        omitted.append(answer.json()["omitted_messages"])
        prompts.append(answer.json()["usage"]["prompt_tokens"])
    assert omitted[0] == 0
    assert omitted[-1] > omitted[-2] > 0
    assert max(prompts) <= 512 - 8
    assert len(client.get("/sessions/long").json()["messages"]) == 12
