"""Attackers kept out: the lines of RELIABILITY.md that concern the gateway's routes, on real processes."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, func, select

from tunesmith_gateway.app import create_app
from tunesmith_gateway.authentication import OPEN_PATHS
from tunesmith_gateway.settings import GatewaySettings
from tunesmith_shared.tables import Base
from tunesmith_shared.testing import Platform

Json = dict[str, Any]

MODEL = "smollm2:135m"
NAMES = ["../x", "/etc/passwd", "..%2fx", "a\0b", "a;b", "-rf", "a\\b", ".."]


def routes() -> list[tuple[str, str]]:
    """Every route of the gateway with its methods, as its own description tells them."""
    app = create_app(GatewaySettings(data_dir=Path("unused"), service_token="unused", database_url="sqlite://"))
    described = app.openapi()["paths"].items()
    return [(method.upper(), path) for path, methods in described for method in methods if path not in OPEN_PATHS]


with pytest.warns(UserWarning, match="Duplicate Operation ID"):
    ROUTES = routes()


def filled(path: str, value: str = "x") -> str:
    return "/".join(value if part.startswith("{") else part for part in path.split("/"))


def rows(platform: Platform) -> dict[str, int]:
    engine = create_engine(platform.environment["TUNESMITH_DATABASE_URL"])
    with engine.connect() as connection:
        counts = {
            name: connection.scalar(select(func.count()).select_from(table)) or 0
            for name, table in Base.metadata.tables.items()
        }
    engine.dispose()
    return counts


@pytest.fixture(scope="module")
def bob(platform: Platform) -> Iterator[httpx.Client]:
    """Another owner, with every scope that is not an administrator's."""
    headers = {"authorization": f"Bearer {platform.key}"}
    made = httpx.post(f"{platform.url}/v1/api_keys", json={"name": "bob", "owner": "bob"}, headers=headers)
    with httpx.Client(
        base_url=platform.url, headers={"authorization": f"Bearer {made.json()['secret']}"}, timeout=60
    ) as client:
        yield client


@pytest.mark.parametrize("authorization", [{}, {"authorization": "Bearer ts-wrong"}, {"authorization": "Basic eDp5"}])
def test_without_a_key_every_route_answers_401_and_nothing_happens(
    platform: Platform, authorization: dict[str, str]
) -> None:
    before, files = rows(platform), sorted((platform.data_dir / "files").glob("*"))
    assert len(ROUTES) > 40
    with httpx.Client(base_url=platform.url, headers=authorization, timeout=30) as nobody:
        for method, path in [*ROUTES, ("GET", "/nosuch"), ("POST", "/v1/nosuch")]:
            body: Json = {"json": {"model": MODEL, "name": "x"}} if method != "HEAD" else {}
            if path in ("/v1/files", "/importDocument", "/fine_tune_model") and method == "POST":
                body = {"files": {"file": ("a.txt", b"x")}, "data": {"purpose": "user_data"}}
            answer = nobody.request(method, filled(path), headers={"idempotency-key": "k"}, **body)
            assert answer.status_code == 401, (method, path, answer.text)
            error = answer.json()["error"] if method != "HEAD" else {}
            assert isinstance(error, str) if path.startswith("/api/") and method != "HEAD" else True
    assert rows(platform) == before
    assert sorted((platform.data_dir / "files").glob("*")) == files


def test_an_upload_without_a_key_is_refused_before_it_is_read(platform: Platform) -> None:
    host, port = platform.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
            b"content-length: 900000000\r\n\r\n--b\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_another_owners_ids_are_not_there_in_path_query_and_body(
    platform: Platform, client: httpx.Client, bob: httpx.Client
) -> None:
    file = client.post("/v1/files", files={"file": ("a.jsonl", b"{}")}, data={"purpose": "batch"}).json()["id"]
    store = client.post("/v1/vector_stores", json={"name": "mine"}).json()["id"]
    batch = client.post(
        "/v1/batches", json={"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    ).json()["id"]
    client.post("/createModel", json={"modelName": "alices", "systemTemplate": "Be brief.", "baseModel": MODEL})
    client.post("/generate", json={"prompt": "hi", "max_new_tokens": 1, "session_id": "alices"})
    ask: Json = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    native: Json = {"model": "alices", "stream": False}
    tried: list[tuple[str, str, Json]] = [
        *(
            (method, f"/v1/files/{file}{rest}", {})
            for method, rest in [("GET", ""), ("GET", "/content"), ("DELETE", "")]
        ),
        ("GET", f"/v1/batches/{batch}", {}),
        ("POST", f"/v1/batches/{batch}/cancel", {}),
        *((method, "/v1/models/alices", {}) for method in ("GET", "DELETE")),
        ("GET", "/sessions/alices", {}),
        ("GET", "/sessions/alices/export", {}),
        ("GET", "/sessions?after=alices", {}),
        ("DELETE", "/clear_session?session_id=alices", {}),
        ("DELETE", "/clear_session", {"session_id": "alices"}),
        ("DELETE", "/deleteModel?modelName=alices", {}),
        *((method, f"/v1/vector_stores/{store}", {}) for method in ("GET", "DELETE")),
        ("GET", f"/v1/vector_stores/{store}/files", {}),
        ("GET", f"/v1/vector_stores/{store}/files/{file}", {}),
        ("POST", f"/v1/vector_stores/{store}/files", {"file_id": file}),
        ("POST", f"/v1/vector_stores/{store}/search", {"query": "x"}),
        ("GET", "/listDocuments?modelName=alices", {}),
        ("DELETE", "/deleteAll_Documents?modelName=alices", {}),
        ("DELETE", "/deleteDocument?modelName=alices&documentName=a", {}),
        ("POST", "/v1/batches", {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}),
        ("POST", "/v1/chat/completions", {**ask, "model": "alices"}),
        ("POST", "/v1/chat/completions", {**ask, "vector_store_ids": [store]}),
        ("POST", "/v1/completions", {"model": "alices", "prompt": "hi"}),
        ("POST", "/v1/embeddings", {"model": "alices", "input": "hi"}),
        ("POST", "/generate", {"prompt": "hi", "model": "alices"}),
        ("POST", "/agenerate", {"prompt": "hi", "model": "alices"}),
        ("POST", "/generate", {"prompt": "hi", "documents": [file]}),
        ("POST", "/embeddings", {"text": "hi", "model": "alices"}),
        ("POST", "/createModel", {"modelName": "bobs", "systemTemplate": "x", "baseModel": "alices"}),
        *(("POST", f"/api/{name}", native) for name in ("chat", "generate", "embed", "embeddings", "show")),
        ("POST", "/api/create", {"model": "bobs", "from": "alices", "stream": False}),
        ("POST", "/api/copy", {"source": "alices", "destination": "bobs"}),
        ("DELETE", "/api/delete", {"model": "alices"}),
    ]
    for method, path, body in tried:
        answer = bob.request(method, path, json=body or None)
        assert answer.status_code == 404, (method, path, body, answer.status_code, answer.text)
    shown = json.dumps(
        [bob.get(path).json() for path in ("/list_Models", "/v1/models", "/api/tags", "/sessions", "/v1/files")]
    )
    assert "alices" not in shown
    assert file not in shown
    assert client.get(f"/v1/files/{file}").status_code == 200
    assert client.get("/sessions/alices").status_code == 200
    assert client.delete("/deleteModel?modelName=alices").status_code == 200


def test_every_route_that_takes_an_id_in_its_path_is_among_those() -> None:
    known = {"name", "file_id", "batch_id", "session_id", "key_id", "digest", "path"}
    named = {part.strip("{}").split(":")[0] for _, path in ROUTES for part in path.split("/") if part.startswith("{")}
    assert named == known  # a new kind of id needs its lines above


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_a_path_or_an_option_is_refused_wherever_a_name_is_taken(
    client: httpx.Client, name: str
) -> None:
    ask: Json = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
    tried: list[tuple[str, str, Json]] = [
        ("POST", "/v1/chat/completions", {"json": ask}),
        ("POST", "/v1/chat/completions", {"json": {**ask, "model": MODEL, "session_id": name}}),
        ("POST", "/v1/chat/completions", {"json": {**ask, "model": MODEL, "documents": [name]}}),
        ("POST", "/v1/completions", {"json": {"model": name, "prompt": "hi"}}),
        ("POST", "/v1/embeddings", {"json": {"model": name, "input": "hi"}}),
        ("POST", "/generate", {"json": {"prompt": "hi", "model": name}}),
        ("POST", "/generate", {"json": {"prompt": "hi", "session_id": name}}),
        ("POST", "/agenerate", {"json": {"prompt": "hi", "documents": [name]}}),
        ("POST", "/embeddings", {"json": {"text": "hi", "model": name}}),
        ("POST", "/createModel", {"json": {"modelName": name, "systemTemplate": "x", "baseModel": MODEL}}),
        ("POST", "/createModel", {"json": {"modelName": "y", "systemTemplate": "x", "baseModel": name}}),
        ("DELETE", "/deleteModel", {"params": {"modelName": name}}),
        ("GET", "/listDocuments", {"params": {"modelName": name}}),
        ("DELETE", "/deleteDocument", {"params": {"modelName": MODEL, "documentName": name}}),
        ("DELETE", "/deleteAll_Documents", {"params": {"modelName": name}}),
        ("DELETE", "/clear_session", {"params": {"session_id": name}}),
        *(("POST", f"/api/{route}", {"json": {"model": name}}) for route in ("chat", "generate", "embed", "show")),
        ("POST", "/api/create", {"json": {"model": name, "from": MODEL}}),
        ("POST", "/api/copy", {"json": {"source": MODEL, "destination": name}}),
        ("DELETE", "/api/delete", {"json": {"model": name}}),
    ]
    for method, path, request in tried:
        answer = client.request(method, path, **request)
        assert answer.status_code == 400, (method, path, request, answer.status_code, answer.text)


@pytest.mark.parametrize("part", [b"..", b"%2e%2e", b"..%2f..%2fx", b"%252e%252e", b"a%00b", b"a;b", b"-rf", b"%2fetc"])
def test_a_path_that_leads_somewhere_else_is_refused_on_every_route(platform: Platform, part: bytes) -> None:
    """Over a bare socket: clients tidy paths up."""
    host, port = platform.url.removeprefix("http://").split(":")
    named = [(method, path) for method, path in ROUTES if "{" in path]
    assert len(named) > 15
    for method, path in named:
        target = filled(path, "%s").encode() % ((part,) * path.count("{"))
        head = (
            b"%s %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"
        )
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head % (method.encode(), target, platform.key.encode()))
            assert connection.recv(100).startswith(b"HTTP/1.1 400"), (method, target)


@pytest.mark.parametrize("name", ["../x.csv", "/etc/passwd", "a;b.csv", "-rf", "a\\b", ".hidden", "a%00b\0.csv"])
def test_an_upload_under_such_a_name_is_refused(client: httpx.Client, name: str) -> None:
    form = (
        f'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b\r\n'
        f'content-disposition: form-data; name="file"; filename="{name}"\r\n\r\nx\r\n--b--\r\n'
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/files", content=form.encode(), headers=headers)
    assert answer.status_code == 400, answer.text
