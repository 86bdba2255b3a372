"""The Caddyfile of the Compose stack, run by an installed Caddy: TLS, and streams that pass as they come."""

import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tunesmith_shared.testing import free_port, wait_until

CADDYFILE = Path(__file__).parents[1] / "Caddyfile"
SECONDS = 60


@pytest.fixture
def first_was_read() -> threading.Event:
    return threading.Event()


@pytest.fixture
def upstream(first_was_read: threading.Event) -> Iterator[int]:
    """A server that sends its second event only after the first one was read at the other end."""

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            if first_was_read.wait(SECONDS):
                self.wfile.write(b"data: second\n\n")

        def log_message(self, format: str, *arguments: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    first_was_read.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed: apt install caddy")
def test_streams_pass_through_tls_as_they_come(tmp_path: Path, upstream: int, first_was_read: threading.Event) -> None:
    plain, secure, health = free_port(), free_port(), free_port()
    settings = {
        "TUNESMITH_DOMAIN": "localhost",
        "TUNESMITH_UPSTREAM": f"127.0.0.1:{upstream}",
        "TUNESMITH_HTTP_PORT": str(plain),
        "TUNESMITH_HTTPS_PORT": str(secure),
        "TUNESMITH_HEALTH_PORT": str(health),
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    authority = tmp_path / "caddy/pki/authorities/local/root.crt"
    log = tmp_path / "caddy.log"
    with log.open("wb") as output:
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(CADDYFILE)]
        caddy = subprocess.Popen(command, env={**os.environ, **settings}, stdout=output, stderr=output)

    def answers() -> bool:
        assert caddy.poll() is None, log.read_text()
        try:
            with httpx.stream("GET", f"http://127.0.0.1:{health}/health", trust_env=False) as answer:
                return answer.is_success and authority.exists()
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, SECONDS, "Caddy answers")
        moved = httpx.get(f"http://localhost:{plain}/x", trust_env=False)
        assert (moved.status_code, moved.headers["location"].split(":")[0]) == (308, "https")
        trusting = ssl.create_default_context(cafile=authority)
        with (
            httpx.Client(verify=trusting, trust_env=False, timeout=SECONDS) as client,
            client.stream("GET", f"https://localhost:{secure}/agenerate") as answer,
        ):
            assert "max-age" in answer.headers["strict-transport-security"]
            lines = answer.iter_lines()
            assert next(lines) == "data: first"
            first_was_read.set()
            assert "data: second" in list(lines)
    finally:
        caddy.terminate()
        caddy.wait(SECONDS)
