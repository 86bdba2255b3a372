"""A model hub of one file: the two requests that its client makes, cut or held back when a test says so."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["hold", "cut"]


@dataclass
class Hub:
    """Serves `content` as `path`. Each download takes one of `faults`: half of what is left, then held or cut."""

    path: str
    content: bytes
    faults: list[Fault] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    url: str = ""
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Run the hub on a free port for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._begin(0)

        def do_GET(self) -> None:
            start = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            if not self._begin(start):
                return
            hub.starts.append(start)
            rest = hub.content[start:]
            if not hub.faults:
                with suppress(ConnectionError):
                    self.wfile.write(rest)
                return
            fault = hub.faults.pop(0)
            with suppress(ConnectionError):
                self.wfile.write(rest[: len(rest) // 2])
            if fault == "hold":
                hub.held.set()
                hub.release.wait(60)
            self.close_connection = True

        def _begin(self, start: int) -> bool:
            known = self.path == hub.path
            self.send_response((206 if start else 200) if known else 404)
            self.send_header("content-length", str(len(hub.content) - start if known else 0))
            self.send_header("etag", f'"{hashlib.sha256(hub.content).hexdigest()}"')
            self.send_header("x-repo-commit", "a" * 40)
            self.send_header("accept-ranges", "bytes")
            if start:
                self.send_header("content-range", f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}")
            self.end_headers()
            return known

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
