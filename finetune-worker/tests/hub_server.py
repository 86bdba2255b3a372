"""A tiny model hub on this machine: the routes of the real one that fetching a model needs, for one repository."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

REVISION = "a" * 39 + "1"


class Hub:
    """What the hub has, and which paths it was asked for with which token."""

    def __init__(self, repository: str, folder: Path) -> None:
        self.repository = repository
        self.folder = folder
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.url = ""

    def files(self) -> list[Path]:
        """The files of the repository."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@contextmanager
def hub_serving(repository: str, folder: Path) -> Iterator[Hub]:
    """Serve `folder` as `repository` at its revision `REVISION`, also called main."""
    hub = Hub(repository, folder)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_arguments: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            path = unquote(self.path.partition("?")[0])
            hub.asked.append(path)
            hub.tokens.add(self.headers.get("authorization"))
            api, files = f"/api/models/{hub.repository}", f"/{hub.repository}/resolve/{REVISION}/"
            if path in (api, f"{api}/revision/main", f"{api}/revision/{REVISION}"):
                self._send(json.dumps(_information(hub)).encode(), "application/json", body)
            elif path.startswith(f"{api}/tree/{REVISION}"):
                self._send(json.dumps([_entry(hub, file) for file in hub.files()]).encode(), "application/json", body)
            elif path.startswith(files) and (hub.folder / path.removeprefix(files)).is_file():
                content = (hub.folder / path.removeprefix(files)).read_bytes()
                self._send(content, "application/octet-stream", body)
            else:
                self.send_response(404)
                self.send_header("x-error-code", "RepoNotFound" if hub.repository not in path else "EntryNotFound")
                self.send_header("content-length", "0")
                self.end_headers()

        def _send(self, content: bytes, kind: str, body: bool) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(content)))
            self.send_header("etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("x-repo-commit", REVISION)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _information(hub: Hub) -> dict[str, object]:
    siblings = [
        {"rfilename": str(file.relative_to(hub.folder)), "size": file.stat().st_size, "blobId": _blob_id(file)}
        for file in hub.files()
    ]
    return {
        "id": hub.repository, "modelId": hub.repository, "sha": REVISION, "private": False, "gated": False,
        "disabled": False, "downloads": 0, "likes": 0, "tags": ["license:apache-2.0"], "siblings": siblings,
    }  # fmt: skip


def _blob_id(file: Path) -> str:
    """Return git's name of the content, which the hub gives for each file."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _entry(hub: Hub, file: Path) -> dict[str, object]:
    return {"type": "file", "path": str(file.relative_to(hub.folder)), "size": file.stat().st_size, "oid": "0" * 40}
