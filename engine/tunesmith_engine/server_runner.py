"""The child process of one loaded model in a llama-server, with the contract of `runner.py`.

Started as ``python -m tunesmith_engine.server_runner <binary> <socket> <specification>``. It prints one line when the
server says that its model is loaded, ends it when the standard input ends, and ends with it. What the server prints
goes to the standard error. The library in the wheel is not imported.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading

from tunesmith_engine.llama_server import command
from tunesmith_engine.parent import die_with
from tunesmith_engine.specification import READY, Specification

_BETWEEN_QUESTIONS_SECONDS = 0.05
_ANSWER_SECONDS = 10.0
_GATEWAY_KEY = "LLAMA_API_KEY"  # a llama-server would ask for it, and a gateway's backend may have one of this name


def main(binary: str, socket_path: str, specification: str) -> None:
    """Run the server, say when its model is loaded, and stay as long as it and the parent do."""
    die_with(os.getppid())
    server = _start(command(binary, socket_path, Specification.decode(specification)))
    threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
    if _becomes_ready(server, socket_path):
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
    elif server.returncode < 0:
        _explain(binary, signal.Signals(-server.returncode))
    os._exit(1 if server.wait() else 0)


def _start(words: list[str]) -> "subprocess.Popen[bytes]":
    own = os.getpid()
    environment = {name: value for name, value in os.environ.items() if name != _GATEWAY_KEY}
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env=environment,
            preexec_fn=lambda: die_with(own),  # noqa: PLW1509 - there is no other thread yet
        )
    except OSError as error:
        sys.exit(f"llama-server: unable to run {words[0]} ({error.strerror}); see TUNESMITH_ENGINE_LLAMA_SERVER")


def _end_with_input(server: "subprocess.Popen[bytes]") -> None:
    """Kill the server when the parent closes the pipe: nobody is left to read its answers."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.kill()


def _becomes_ready(server: "subprocess.Popen[bytes]", socket_path: str) -> bool:
    """Wait until the server has loaded its model, or is gone."""
    while True:
        try:
            server.wait(_BETWEEN_QUESTIONS_SECONDS)
        except subprocess.TimeoutExpired:
            if _says_ready(socket_path):
                return True
        else:
            return False


def _says_ready(socket_path: str) -> bool:
    connection = _UnixConnection(socket_path, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _explain(binary: str, ended_by: signal.Signals) -> None:
    """Say how the server died, since it cannot: a build for another processor does so at its first instruction."""
    why = "; it is a build for another processor" if ended_by is signal.SIGILL else ""
    sys.stderr.write(f"llama-server: unable to load, {binary} was ended by {ended_by.name}{why}\n")
    sys.stderr.flush()


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a socket in the file system; the path stands where a host's name does."""

    def connect(self) -> None:
        """Connect. Raises OSError when nobody listens yet."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host)


if __name__ == "__main__":
    main(*sys.argv[1:4])
