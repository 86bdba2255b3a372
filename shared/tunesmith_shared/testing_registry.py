"""A registry that gives away and takes models over HTTP, and can be told to break off, lie, refuse, redirect."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Registry:
    """What it serves and what it was asked for. The faults hold until they are changed."""

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        self.address = ""
        self.blobs_asked: list[tuple[str, int]] = []
        """Digests and the first byte that was asked for."""
        self.breaks_after: int | None = None
        """Bytes of an answer after which the connection is closed."""
        self.holds_after: int | None = None
        """Bytes of an answer after which nothing more comes until `go_on` is set."""
        self.go_on = threading.Event()
        self.blobs_taken: list[str] = []
        """Digests of the blobs that were sent whole."""
        self.breaks_uploads = 0
        """How many of the next uploads are cut off in their middle."""
        self.wants_sign_in = False
        self.lies = False
        self.redirects = False
        self.ranges = True

    def name(self, model: str) -> str:
        """How a model of this registry is pulled."""
        return f"http://{self.address}/library/{model}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, registry: Registry) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        registry, parts = self.server.registry, self.path.split("/")
        kind, what = parts[-2:]
        if kind == "manifests":
            self._send(registry.models_dir / "manifests/registry.ollama.ai/library" / parts[3] / what)
        elif registry.redirects and not self.path.startswith("/elsewhere/"):
            self.send_response(307)
            self.send_header("location", f"/elsewhere/blobs/{what}")
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            self._blob(what)

    def do_HEAD(self) -> None:
        self._answer(200 if self._blob_path(self.path.split("/")[-1]).is_file() else 404)

    def do_POST(self) -> None:
        self._answer(401 if self.server.registry.wants_sign_in else 202, location="uploads/1?state=here")

    def do_PUT(self) -> None:
        registry, length = self.server.registry, int(self.headers["content-length"])
        address, _, digest = self.path.partition("?state=here&digest=")
        if digest and registry.breaks_uploads:
            registry.breaks_uploads -= 1
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        content, parts = self.rfile.read(length), address.split("/")
        if not digest:
            path = registry.models_dir / "manifests/registry.ollama.ai/library" / parts[3] / parts[-1]
        elif f"sha256:{hashlib.sha256(content).hexdigest()}" == unquote(digest):
            path = self._blob_path(unquote(digest))
            registry.blobs_taken.append(unquote(digest))
        else:
            self._answer(400)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self._answer(201)

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def _blob_path(self, digest: str) -> Path:
        return self.server.registry.models_dir / "blobs" / digest.replace(":", "-")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _blob(self, digest: str) -> None:
        registry = self.server.registry
        start = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        registry.blobs_asked.append((digest, start))
        self._send(self._blob_path(digest), start if registry.ranges else 0)

    def _send(self, path: Path, start: int = 0) -> None:
        if not path.is_file():
            self.send_error(404)
            return
        registry, content = self.server.registry, path.read_bytes()[start:]
        if registry.lies and "blobs" in str(path):
            content = content[:-1] + b"?"
        self.send_response(206 if start else 200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if registry.holds_after is not None and len(content) > registry.holds_after:
            self.wfile.write(content[: registry.holds_after])
            registry.go_on.wait(120)
            content = content[registry.holds_after :]
        if registry.breaks_after is not None and len(content) > registry.breaks_after:
            content, self.close_connection = content[: registry.breaks_after], True
        self.wfile.write(content)


@contextmanager
def registry_of(models_dir: Path) -> Iterator[Registry]:
    """Serve the models of a folder, in the layout that Ollama has for those of its own registry."""
    registry = Registry(models_dir)
    server = _Server(registry)
    registry.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
