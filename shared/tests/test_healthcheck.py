"""What container images ask themselves: is the service on this port healthy?"""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from tunesmith_shared.healthcheck import main
from tunesmith_shared.testing import free_port


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that answers `/health` with the status that the test names."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(b"the database is away")

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("answering", [200], indirect=True)
def test_a_healthy_service_passes(answering: int) -> None:
    main(answering)


@pytest.mark.parametrize("answering", [503], indirect=True)
def test_an_unhealthy_service_fails_and_says_why(answering: int) -> None:
    with pytest.raises(SystemExit, match=r"answered 503: the database is away"):
        main(answering)


def test_a_service_that_is_not_there_fails() -> None:
    with pytest.raises(SystemExit, match="does not answer"):
        main(free_port())
