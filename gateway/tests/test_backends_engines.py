"""Two real engines on one store behind one gateway: the load is shared, and either may be killed."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import orjson
import pytest

from tunesmith_shared.testing import Platform, Service, free_port, platform_at, wait_for_models, wait_until

MODEL = "smollm2:135m"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a long story."}], "temperature": 0.9}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, Service, Service]]:
    """The platform, and its two engines, which the gateway knows to be there."""
    port = free_port()
    folder = tmp_path_factory.mktemp("engines")
    with platform_at(folder) as platform:
        first = platform.services["engine"]
        second = replace(
            first,
            url=f"http://127.0.0.1:{port}",
            environment={**first.environment, "TUNESMITH_ENGINE_PORT": str(port)},
            log=folder / "second.log",
        )
        rows = [{"name": "first", "url": first.url}, {"name": "second", "url": second.url}]
        platform.environment["TUNESMITH_BACKENDS"] = json.dumps(rows)
        try:
            for engine in (first, second):
                engine.start()
                wait_for_models(engine.url)
            platform.environment["TUNESMITH_BACKEND_CHECK_SECONDS"] = "2"
            platform.start("gateway")
            wait_until(lambda: gauge(platform, "models", "first") == 2, 120, "the first lists its models")
            wait_until(lambda: gauge(platform, "models", "second") == 2, 120, "the second lists its models")
            yield platform, first, second
        finally:
            second.stop()


def gauge(platform: Platform, what: str, backend: str) -> float:
    line = f'tunesmith_backend_{what}{{backend="{backend}"}} '
    headers = {"authorization": f"Bearer {platform.key}"}
    shown = httpx.get(f"{platform.url}/metrics", headers=headers, timeout=60).text
    return float(shown.split(line)[1].split("\n")[0])


def busy(platform: Platform) -> tuple[float, float]:
    return gauge(platform, "requests_running", "first"), gauge(platform, "requests_running", "second")


def test_two_engines_share_the_load_and_either_may_be_killed(pair: tuple[Platform, Service, Service]) -> None:
    platform, first, second = pair
    headers = {"authorization": f"Bearer {platform.key}"}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=120) as client:
        made = {"modelName": "shared-one", "baseModel": MODEL, "systemTemplate": "Be brief."}
        assert client.post("/createModel", json=made).json()["backend"] == "first"
        _share_the_load(client, platform)
        _kill_in_the_midst(client, platform, first)
        for _ in range(2):
            answer = client.post("/v1/chat/completions", json={**ASK, "model": "shared-one", "max_tokens": 4})
            assert answer.status_code == 200
        first.start()
        second.kill()
        assert client.post("/generate", json={"prompt": "Hi", "max_new_tokens": 4}).status_code == 200
        states = client.get("/health").json()["dependencies"]
        assert (states["model server"], states["backend 'first'"]) == ("OK", "OK")
        assert "not running" in states["backend 'second'"]


def _share_the_load(client: httpx.Client, platform: Platform) -> None:
    """Four long streams at once are two at each engine."""
    enough = threading.Event()

    def follow() -> None:
        with client.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True, "max_tokens": 2000}) as answer:
            for _ in answer.iter_bytes():
                if enough.is_set():
                    return

    with ThreadPoolExecutor(4) as pool:
        streams = [pool.submit(follow) for _ in range(4)]
        try:
            wait_until(lambda: busy(platform) == (2, 2), 120, "two streams at each engine")
        finally:
            enough.set()
        for stream in streams:
            stream.result()
    wait_until(lambda: busy(platform) == (0, 0), 60, "no stream is open")


def _kill_in_the_midst(client: httpx.Client, platform: Platform, engine: Service) -> None:
    """The stream of a killed engine ends with an error event; it is not begun again elsewhere."""
    body = {**ASK, "stream": True, "max_tokens": 2000}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        parts = answer.iter_text()
        text = next(parts)
        assert busy(platform) == (1, 0)
        engine.kill()
        text += "".join(parts)
    last = orjson.loads(text.strip().split("\n\n")[-1].removeprefix("data: "))
    assert last["error"]["code"] == "upstream_failed"
