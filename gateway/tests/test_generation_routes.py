"""The short way to the routes that generate: what the framework's own way to them would answer."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tunesmith_gateway.app import create_app
from tunesmith_gateway.settings import GatewaySettings
from tunesmith_shared.settings import async_database_url
from tunesmith_shared.testing import temporary_database

from .scripted import scripted_ollama

KEY = "ts-both-ways"
CHAT = "/v1/chat/completions"
SAID = [{"role": "user", "content": "hello"}]


@pytest_asyncio.fixture(params=["short", "framework's"], scope="module", loop_scope="session")
async def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway in this process, its generations by the short way or the framework's."""
    folder, headers = tmp_path_factory.mktemp("both-ways"), {"authorization": f"Bearer {KEY}"}
    with temporary_database(folder) as url:
        async with scripted_ollama() as server:
            app = create_app(
                GatewaySettings(
                    data_dir=folder,
                    service_token="x",
                    database_url=async_database_url(url),
                    ollama_host=server.url,
                    api_key=KEY,
                )
            )
            if request.param != "short":
                app.user_middleware = [each for each in app.user_middleware if "GenerationRoutes" not in repr(each)]
            transport = httpx.ASGITransport(app=app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client,
            ):
                yield client


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        (CHAT, {"model": "m", "messages": SAID}, 200, "hello"),
        (CHAT, {"messages": SAID}, 400, "Name the model"),
        (CHAT, {"model": "m", "messages": SAID, "n": 0}, 400, "1 to 16"),
        (CHAT, {"model": "m", "messages": SAID, "session_id": 7}, 400, "session_id"),
        (CHAT, [], 400, "JSON object"),
        ("/v1/embeddings", {"model": "m", "input": "x"}, 200, "embedding"),
        ("/v1/embeddings", {"model": "../x", "input": "x"}, 400, "invalid model name"),
        ("/api/chat", {"messages": SAID}, 404, "not found"),
    ],
)
async def test_both_ways_give_the_same_answers(
    client: httpx.AsyncClient, path: str, body: Any, status: int, said: str
) -> None:
    answer = await client.post(path, json=body)
    assert (answer.status_code, said in answer.text) == (status, True), answer.text
    assert answer.headers["x-request-id"].startswith("req-")
    counted = (await client.get("/metrics")).text
    assert f'tunesmith_requests_total{{method="POST",route="{path}",status="{status}"}}' in counted
    if status != 200:
        assert isinstance(answer.json()["error"], str) is path.startswith("/api/")


async def test_other_methods_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get(CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
