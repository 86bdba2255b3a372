"""The parts that every service has, on one that does nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from tunesmith_shared.app import create_service
from tunesmith_shared.auth import Owner, service_headers
from tunesmith_shared.errors import TooManyRequests, Unavailable
from tunesmith_shared.settings import ServiceSettings

router = APIRouter()


@router.get("/busy")
@router.get("/api/busy")
async def busy() -> None:
    raise TooManyRequests("Too many requests. Try again in 3 s.", retry_after=3)


@router.get("/broken")
async def broken() -> None:
    raise ZeroDivisionError


@router.get("/typed")
async def typed(count: int) -> int:
    return count


@router.get("/owned")
async def owned(owner: Owner) -> str:
    return owner


class Breaking:
    """A service's own middleware that fails."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/broken-before":
            raise ZeroDivisionError
        await self.app(scope, receive, send)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.up = True
    yield


async def dependency(app: FastAPI) -> None:
    if not app.state.up:
        raise Unavailable("it is away")


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[FastAPI]:
    app = create_service(
        "test",
        ServiceSettings(data_dir=tmp_path),
        lifespan,
        [router],
        checks={"it": dependency},
        middleware=[Middleware(Breaking)],
    )
    async with lifespan(app):
        yield app


@pytest_asyncio.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client


async def test_errors_have_openais_shape_and_ollamas_under_api(client: httpx.AsyncClient) -> None:
    answer = await client.get("/busy")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert (await client.get("/api/busy")).json() == {"error": "Too many requests. Try again in 3 s."}


@pytest.mark.parametrize("path", ["/broken", "/broken-before"])
async def test_an_unexpected_error_names_the_request_and_nothing_of_its_inside(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path, headers={"x-request-id": "mine-1"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine-1")
    assert "mine-1" in answer.json()["error"]["message"]
    assert "ZeroDivision" not in answer.text


async def test_what_the_framework_refuses_has_the_same_shape(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nowhere")).json()["error"]["message"] == "There is no route GET /nowhere."
    assert (await client.post("/typed")).status_code == 405
    wrong = (await client.get("/typed", params={"count": "many"})).json()["error"]
    assert wrong["param"] == "count"


async def test_every_answer_has_a_request_id(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health", headers={"x-request-id": "abc"})).headers["x-request-id"] == "abc"
    odd = await client.get("/health", headers={"x-request-id": "a b\t"})
    assert odd.headers["x-request-id"].startswith("req-")


async def test_health_tells_each_dependency_and_stopping(app: FastAPI, client: httpx.AsyncClient) -> None:
    assert (await client.get("/health")).json() == {"status": "OK", "dependencies": {"it": "OK"}}
    app.state.up = False
    down = await client.get("/health")
    assert (down.status_code, down.json()["dependencies"]) == (503, {"it": "it is away"})
    app.state.up, app.state.draining = True, True
    assert (await client.get("/health")).json()["status"] == "STOPPING"


async def test_metrics_count_by_route(client: httpx.AsyncClient) -> None:
    await client.get("/typed", params={"count": 1})
    assert 'tunesmith_requests_total{method="GET",route="/typed",status="200"}' in (await client.get("/metrics")).text


async def test_only_the_service_token_names_an_owner(app: FastAPI, client: httpx.AsyncClient) -> None:
    assert (await client.get("/owned", headers={"x-tunesmith-owner": "alice"})).status_code == 401
    headers = service_headers(app.state.settings, "alice")
    assert (await client.get("/owned", headers=headers)).json() == "alice"
