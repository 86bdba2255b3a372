"""Keys over HTTP, on two gateways over one database."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from tunesmith_shared.clock import now
from tunesmith_shared.testing import Platform, free_port, platform_at


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform_at(tmp_path_factory.mktemp("keys")) as platform:
        gateway, port = platform.services["gateway"], str(free_port())
        environment = {**gateway.environment, "TUNESMITH_PORT": port, "TUNESMITH_INSTANCE": "2"}
        log = gateway.log.with_name("second.log")
        platform.services["second"] = replace(gateway, url=f"http://127.0.0.1:{port}", environment=environment, log=log)
        platform.start("gateway", "second")
        yield platform


@pytest.fixture
def administrator(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url, headers={"authorization": f"Bearer {platform.key}"}) as client:
        yield client


def made(administrator: httpx.Client, **wanted: object) -> dict[str, str]:
    answer = administrator.post("/v1/api_keys", json={"name": "test", **wanted})
    assert answer.status_code == 200, answer.text
    key: dict[str, str] = answer.json()
    return key


def status(url: str, secret: str, path: str = "/sessions") -> int:
    return httpx.get(url + path, headers={"authorization": f"Bearer {secret}"}).status_code


def test_the_secret_is_shown_once(administrator: httpx.Client) -> None:
    key = made(administrator, owner="alice", limits={"requests_per_minute": 7})
    assert key["secret"].startswith(key["prefix"])
    page = administrator.get("/v1/api_keys", params={"owner": "alice"})
    assert key["secret"] not in page.text
    listed = page.json()["data"][0]
    assert (listed["id"], listed["status"], listed["limits"]) == (key["id"], "active", {"requests_per_minute": 7})


def test_a_revoked_key_dies_at_once_in_every_process(platform: Platform, administrator: httpx.Client) -> None:
    key = made(administrator, owner="alice")
    second = platform.services["second"].url
    assert [status(url, key["secret"]) for url in (platform.url, second)] == [200, 200]
    assert administrator.delete(f"/v1/api_keys/{key['id']}").json()["deleted"] is True
    assert [status(url, key["secret"]) for url in (platform.url, second)] == [401, 401]


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("chat", {"/sessions": 200, "/v1/files": 200, "/v1/vector_stores": 403, "/v1/fine_tuning/jobs": 403}),
        ("documents", {"/sessions": 403, "/v1/files": 200, "/v1/vector_stores": 503, "/v1/fine_tuning/jobs": 403}),
        ("train", {"/sessions": 403, "/v1/files": 200, "/v1/vector_stores": 403, "/v1/fine_tuning/jobs": 503}),
        ("admin", {"/sessions": 200, "/v1/api_keys": 200, "/v1/vector_stores": 503, "/v1/fine_tuning/jobs": 503}),
    ],
)
def test_a_key_does_what_its_scopes_say(
    platform: Platform, administrator: httpx.Client, scope: str, allowed: dict[str, int]
) -> None:
    secret = made(administrator, owner="alice", scopes=[scope])["secret"]
    assert {path: status(platform.url, secret, path) for path in allowed} == allowed


def test_only_an_administrator_makes_and_sees_keys(platform: Platform, administrator: httpx.Client) -> None:
    secret = made(administrator, owner="alice")["secret"]
    headers = {"authorization": f"Bearer {secret}"}
    refused = httpx.post(f"{platform.url}/v1/api_keys", json={"name": "more"}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")
    assert status(platform.url, secret, "/v1/api_keys") == 403


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"expires_at": now() - 10}, "expires_at"),
        ({"owner": "../x"}, "owner"),
        ({"scopes": ["everything"]}, "0"),
        ({"scopes": []}, "scopes"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_key_is_refused(administrator: httpx.Client, wrong: dict[str, object], param: str) -> None:
    answer = administrator.post("/v1/api_keys", json={"name": "test", **wrong})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_an_unknown_key_cannot_be_revoked(administrator: httpx.Client) -> None:
    assert administrator.delete("/v1/api_keys/key-none").status_code == 404
