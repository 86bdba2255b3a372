"""scripts/load_base_model.py against a small server that has the hub's routes: interruption, pickles, lies."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from tunesmith_shared.testing import wait_until

SCRIPT = Path(__file__).parents[1] / "scripts" / "load_base_model.py"
REPOSITORY, COMMIT = "acme/tiny", "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = save({"weight": np.arange(6_000_000, dtype=np.float32)})
GOOD = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickled",
    "modeling_tiny.py": b"raise SystemExit('never run')",
}
TOKEN = "hf_of_the_test"


@dataclass
class Hub:
    """A repository, what was asked of it, and a file that stops in the middle until `released`."""

    files: dict[str, bytes]
    url: str = ""
    stalls: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What the hub says about the repository."""
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": [self._sibling(name) for name in self.files]}

    def _sibling(self, name: str) -> dict[str, Any]:
        content = self.files[name]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        found: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name.endswith((".safetensors", ".bin")):
            sha256 = self.hashes.get(name) or hashlib.sha256(content).hexdigest()
            found["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
        return found


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a free port."""

    class Routes(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, format: str, *arguments: object) -> None:
            """Keep quiet."""

        def _answer(self) -> None:
            hub.asked.append((self.command, self.path, self.headers.get("range") or ""))
            if self.headers.get("authorization") != f"Bearer {TOKEN}":
                self._send(401, b"{}")
            elif self.path.startswith(f"/api/models/{REPOSITORY}/revision/main"):
                self._send(200, json.dumps(hub.facts()).encode(), {"content-type": "application/json"})
            elif (name := self.path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")) in hub.files:
                self._file(name)
            else:
                self._send(404, b"{}", {"x-error-code": "RepoNotFound"})

        def _file(self, name: str) -> None:
            content = hub.files[name]
            start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("range") or "")) else 0
            more = {"etag": f'"{hashlib.sha256(content).hexdigest()}"', "x-repo-commit": COMMIT}
            more["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206 if start else 200, content[start:], more, stalls=name == hub.stalls)

        def _send(self, status: int, body: bytes, more: dict[str, str] | None = None, *, stalls: bool = False) -> None:
            self.send_response(status)
            for key, value in {**(more or {}), "content-length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if stalls:
                self.wfile.write(body[: len(body) * 3 // 4])
                hub.released.wait(120)
                self.close_connection = True
            else:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Routes)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def start(hub: Hub, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the script against `hub`."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, str(SCRIPT), REPOSITORY, "--to", str(folder), *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run(hub: Hub, folder: Path, *arguments: str) -> tuple[int, str]:
    """Return the script's status and what it printed."""
    process = start(hub, folder, *arguments)
    output, _ = process.communicate(timeout=300)
    assert TOKEN not in output
    return process.returncode, output


def test_a_download_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    with serve(Hub(dict(GOOD), stalls="model.safetensors")) as hub:
        status, said = run(hub, tmp_path, "--dry-run")
        assert (status, list(tmp_path.iterdir())) == (0, [])
        assert "model.safetensors" in said
        assert "pytorch_model.bin" not in said

        first = start(hub, tmp_path)
        wait_until(lambda: sum(p.stat().st_size for p in tmp_path.glob("*/.*/model*.part")), 120, "some was written")
        first.kill()
        first.communicate()
        (part,) = tmp_path.glob("*/.*/*.part")
        there = part.stat().st_size
        assert 0 < there < len(WEIGHTS)
        hub.stalls = ""

        status, said = run(hub, tmp_path)
        assert (status, "goes on at" in said) == (0, True)
        assert hub.asked[-1] == ("GET", f"/{REPOSITORY}/resolve/{COMMIT}/model.safetensors", f"bytes={there}-")
        folder = tmp_path / "acme--tiny" / COMMIT
        assert {path.name for path in folder.iterdir()} == {
            "config.json", "tokenizer.json", "model.safetensors", "base-model.json",
        }  # fmt: skip
        assert (folder / "model.safetensors").read_bytes() == WEIGHTS
        record = json.loads((folder / "base-model.json").read_text())
        assert (record["repository"], record["revision"]) == (REPOSITORY, COMMIT)
        status, said = run(hub, tmp_path)
        assert (status, "is there already" in said) == (0, True)


@pytest.mark.parametrize(
    ("files", "hashes", "part"),
    [
        ({"config.json": b"{}", "pytorch_model.bin": b"x"}, {}, "only pytorch_model.bin. Pickled weights can run code"),
        ({"config.json": b"{}", "model.safetensors": b"\x80\x04pickled"}, {}, "is called safetensors and is none"),
        ({"config.json": b"{}", "model.safetensors": WEIGHTS}, {"model.safetensors": "0" * 64}, "is damaged"),
        ({"model.safetensors": WEIGHTS}, {}, "has no config.json"),
    ],
)
def test_what_is_no_safe_whole_model_is_refused_and_leaves_no_folder(
    tmp_path: Path, files: dict[str, bytes], hashes: dict[str, str], part: str
) -> None:
    with serve(Hub(files, hashes=hashes)) as hub:
        status, said = run(hub, tmp_path)
        assert status == 1
        assert part in said
        assert not [path for path in tmp_path.glob("*/*") if not path.name.startswith(".")]


def test_a_folder_that_cannot_be_written_is_a_sentence() -> None:
    with serve(Hub(dict(GOOD))) as hub:
        status, said = run(hub, Path("/sys/base-models"))
        assert status == 1
        assert said.startswith("/sys/base-models")
        assert "cannot be written" in said


@pytest.mark.parametrize(
    ("repository", "key", "part"),
    [("acme/nosuch", TOKEN, "The hub has no model acme/nosuch"), (REPOSITORY, "", "set HF_TOKEN to a token")],
)
def test_a_model_that_is_not_there_or_not_ours_is_a_sentence(
    tmp_path: Path, repository: str, key: str, part: str
) -> None:
    with serve(Hub(dict(GOOD))) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": key, "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, str(SCRIPT), repository, "--to", str(tmp_path)]
        answer = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
        assert answer.returncode == 1
        assert part in answer.stderr
        assert "Traceback" not in answer.stderr
