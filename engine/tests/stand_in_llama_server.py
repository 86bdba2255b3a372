"""A llama-server that computes nothing: its options, its socket, its way of loading, failing and dying.

The first word of the model file decides what happens: ``damaged`` is refused in llama.cpp's words, ``foreign`` ends the
process as an unknown instruction does, ``slow`` is loaded as soon as there is a file of the model's name with ``.go``
at its end, and anything else at once. A request whose prompt is ``crash`` ends the process amid the answer.
"""

import argparse
import json
import os
import signal
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

VALUES = {
    "--model": str, "--host": str, "--alias": str, "--parallel": int, "--ctx-size": int, "--threads": int,
    "--threads-batch": int, "--batch-size": int, "--ubatch-size": int, "--threads-http": int, "--gpu-layers": int,
    "--cache-ram": int, "--fit": str, "--verbosity": int, "--lora": str,
}  # fmt: skip
SWITCHES = ["--no-webui", "--context-shift", "--no-context-shift", "--embedding", "--lora-init-without-apply"]


def parser() -> argparse.ArgumentParser:
    """The options; any other ends the process with status 2."""
    made = argparse.ArgumentParser("llama-server", allow_abbrev=False)
    for option, kind in VALUES.items():
        made.add_argument(option, type=kind)
    for option in SWITCHES:
        made.add_argument(option, action="store_true")
    made.add_argument("--version", action="version", version="version: 1 (stand-in)")
    return made


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers on a Unix socket."""

    daemon_threads = True
    model: Path
    refused_key: str | None

    @property
    def loaded(self) -> bool:
        """Whether the model may be said to be loaded."""
        return not self.model.read_bytes().startswith(b"slow") or self.model.with_suffix(".go").exists()


class Handler(BaseHTTPRequestHandler):
    """`GET /health`, and one answer to every POST."""

    server: Server

    def do_GET(self) -> None:
        """Say whether the model is loaded; who asks too early is noted beside the model."""
        if not self.server.loaded:
            with self.server.model.with_suffix(".asked").open("a") as note:
                note.write("x")
        self._answer(200 if self.server.loaded else 503, {"status": "ok"})

    def do_POST(self) -> None:
        """Answer, or die amid the answer."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.server.refused_key is not None:
            self._answer(401, {"error": {"message": "Invalid API Key", "type": "authentication_error"}})
        elif body.get("prompt") == "crash":
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b"half an answer")
            self.wfile.flush()
            os._exit(3)
        else:
            self._answer(200, {"said": body.get("prompt")})

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main() -> None:
    """Load and serve until killed."""
    given = parser().parse_args()
    model = Path(given.model)
    kind = model.read_bytes()[:7]
    if kind == b"damaged":
        sys.stderr.write("llama_model_load: error loading model: tensor 'x' is not within the file bounds\n")
        sys.exit("srv  llama_server: exiting due to model loading error")
    if kind == b"foreign":
        os.kill(os.getpid(), signal.SIGILL)
    with Server(given.host, Handler) as server:
        server.model = model
        server.refused_key = os.environ.get("LLAMA_API_KEY")
        sys.stdout.write("the stand-in listens\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
