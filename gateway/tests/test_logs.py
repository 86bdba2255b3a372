"""What the services' logs say after traffic: request ids, and neither prompts nor keys."""

from typing import Any

import httpx

from tunesmith_shared.testing import Platform

MARKER = "heliotrope-gazebo"
MODEL = "smollm2:135m"
MESSAGES = [{"role": "user", "content": f"Say {MARKER}."}]
LONG = [{"role": "user", "content": f"{MARKER} " * 3000}]
SHORT = {"model": MODEL, "max_tokens": 2, "options": {"num_predict": 2}}


def test_no_log_has_a_prompt_an_answer_or_a_key_and_all_have_the_request_id(
    platform: Platform, client: httpx.Client
) -> None:
    client.headers["x-request-id"] = "followed-through"
    traffic: list[tuple[str, Any]] = [
        ("/v1/chat/completions", {**SHORT, "messages": MESSAGES}),
        ("/v1/chat/completions", {**SHORT, "messages": MESSAGES, "stream": True}),
        ("/v1/chat/completions", {**SHORT, "messages": MESSAGES, "session_id": "logged"}),
        ("/v1/chat/completions", {**SHORT, "messages": LONG, "session_id": "too-long"}),
        ("/v1/chat/completions", {**SHORT, "messages": MESSAGES, "model": "nosuch"}),
        ("/v1/chat/completions", {**SHORT, "messages": MESSAGES, "n": MARKER}),
        ("/v1/completions", {**SHORT, "prompt": MARKER}),
        ("/v1/embeddings", {"model": "all-minilm", "input": MARKER}),
        ("/api/chat", {**SHORT, "messages": MESSAGES}),
        ("/api/generate", {**SHORT, "prompt": MARKER}),
        ("/api/generate", {**SHORT, "prompt": MARKER, "options": {"temperature": MARKER}}),
        ("/generate", {"prompt": MARKER, "max_new_tokens": 2}),
        ("/generate", {"prompt": MARKER, "params": {MARKER: 1}}),
        ("/agenerate", {"prompt": MARKER, "max_new_tokens": 2}),
        ("/embeddings", {"text": MARKER}),
        ("/v1/vector_stores", {"name": MARKER, "nosuch": MARKER}),
    ]
    statuses = {client.post(path, json=body).status_code for path, body in traffic}
    assert {200, 400, 404} <= statuses
    client.post("/generate", content=f'{{"prompt": "{MARKER}'.encode(), headers={"content-type": "application/json"})
    store = client.post("/v1/vector_stores", json={"name": "logged"}).json()["id"]
    found = client.post(f"/v1/vector_stores/{store}/search", json={"query": MARKER, "rewrite_query": False})
    assert found.status_code == 200, found.text
    httpx.get(f"{platform.url}/sessions", headers={"authorization": "Bearer ts-a-wrong-one"})
    token = (platform.data_dir / "secrets" / "service_token").read_text()
    for name in ("engine", "rag", "gateway"):
        log = platform.services[name].log.read_text()
        assert "request=followed-through" in log, name
        for secret in (MARKER, platform.key, token, "ts-a-wrong-one"):
            assert secret not in log, (name, next(line for line in log.splitlines() if secret in line))
