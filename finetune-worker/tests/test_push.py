"""Sending a model to a hub: a small one here, which speaks the routes that huggingface_hub uses."""

import asyncio
import base64
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

TOKEN = "hf_secret"


@dataclass
class Hub:
    """Keeps what is committed, by name, and what was asked of it without the token."""

    url: str = ""
    stored: dict[str, bytes] = field(default_factory=dict)
    committed: dict[str, bytes] = field(default_factory=dict)
    private: bool | None = None
    strangers: int = 0

    async def create(self, request: web.Request) -> web.Response:
        self._check(request)
        self.private = (await request.json())["visibility"] == "private"
        return web.json_response({"url": f"{self.url}/me/keeper"})

    async def preupload(self, request: web.Request) -> web.Response:
        files = (await request.json())["files"]
        modes = [{**file, "uploadMode": "lfs" if file["path"].endswith("gguf") else "regular"} for file in files]
        return web.json_response({"files": [{**file, "shouldIgnore": False} for file in modes]})

    async def batch(self, request: web.Request) -> web.Response:
        self._check(request)
        wanted = (await request.json())["objects"]
        objects = [{**one, "actions": {"upload": {"href": f"{self.url}/put/{one['oid']}"}}} for one in wanted]
        return web.json_response({"transfer": "basic", "objects": objects})

    async def validate(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"errors": [], "warnings": []})

    async def put(self, request: web.Request) -> web.Response:
        self.stored[request.match_info["oid"]] = await request.read()
        return web.Response()

    async def commit(self, request: web.Request) -> web.Response:
        self._check(request)
        for line in (await request.text()).splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.committed[value["path"]] = base64.b64decode(value["content"])
            if entry["key"] == "lfsFile":
                self.committed[value["path"]] = self.stored[value["oid"]]
        return web.json_response(
            {"success": True, "commitOid": "c0ffee", "commitUrl": f"{self.url}/me/keeper/commit/1"}
        )

    def _check(self, request: web.Request) -> None:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            self.strangers += 1
            raise web.HTTPUnauthorized


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[Hub]:
    hub, app = Hub(), web.Application(client_max_size=2**26)
    app.router.add_post("/api/repos/create", hub.create)
    app.router.add_post("/api/models/me/keeper/preupload/main", hub.preupload)
    app.router.add_post("/me/keeper.git/info/lfs/objects/batch", hub.batch)
    app.router.add_put("/put/{oid}", hub.put)
    app.router.add_post("/api/validate-yaml", hub.validate)
    app.router.add_post("/api/models/me/keeper/commit/main", hub.commit)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hub.url = site.name
    yield hub
    await runner.cleanup()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished job's folder."""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "model-Q8_0.gguf").write_bytes(b"GGUF" * 1000)
    (tmp_path / "card.md").write_text("# keeper\n")
    return tmp_path


async def push(hub: Hub, folder: Path, content: str, token: str = TOKEN) -> tuple[int | None, str]:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tunesmith_finetune.push", str(folder), "me/keeper", content, "private"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_files_and_card_are_one_commit(hub: Hub, folder: Path) -> None:
    status, output = await push(hub, folder, "gguf")
    assert (status, output.splitlines()[-1]) == (0, f"{hub.url}/me/keeper/commit/1"), output
    assert hub.committed == {"model-Q8_0.gguf": b"GGUF" * 1000, "README.md": b"# keeper\n"}
    assert list(hub.stored) == [hashlib.sha256(b"GGUF" * 1000).hexdigest()]
    assert hub.private is True
    hub.committed.clear()
    assert (await push(hub, folder, "adapter"))[0] == 0
    assert sorted(hub.committed) == ["README.md", "adapter_config.json"]


async def test_a_wrong_token_is_said_and_not_shown(hub: Hub, folder: Path) -> None:
    status, output = await push(hub, folder, "adapter", "hf_wrong")
    assert status == 1
    assert "the hub did not take the model: " in output
    assert "hf_wrong" not in output
    assert hub.committed == {}
