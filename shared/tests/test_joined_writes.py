"""What leaves the server in one write, seen by a transport that counts them."""

import asyncio
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from tunesmith_shared.joined_writes import JoinedWrites


class Counting(asyncio.Transport):
    """A client's connection, as far as a server uses it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []
        self.closed_after: int | None = None

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed_after = len(self.writes)

    def is_closing(self) -> bool:
        return self.closed_after is not None

    def pause_reading(self) -> None:
        """Nothing more comes."""

    def resume_reading(self) -> None:
        """Nothing more comes."""


async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer whole, or, under /later, with a body for which `go` must be set."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    if scope["path"] == "/later":
        await scope["state"]["go"].wait()
    await send({"type": "http.response.body", "body": b"hel", "more_body": True})
    await send({"type": "http.response.body", "body": b"lo"})


async def asked(request: bytes, state: dict[str, Any]) -> tuple[Counting, list[asyncio.Task[None]]]:
    """Give the connection and the tasks of a server that has read `request`."""
    config = uvicorn.Config(answer, http=JoinedWrites, log_config=None)
    config.load()
    server = ServerState()
    protocol = JoinedWrites(config, server, state)
    connection = Counting()
    protocol.connection_made(connection)
    protocol.data_received(request)
    return connection, list(server.tasks)


async def test_a_head_and_the_part_that_follows_are_one_write() -> None:
    connection, tasks = await asked(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", {})
    await asyncio.gather(*tasks)
    head, rest = connection.writes
    assert (head[:15], head[-7:], rest) == (b"HTTP/1.1 200 OK", b"\r\n\r\nhel", b"lo")
    assert connection.closed_after == 2


async def test_a_head_does_not_wait_for_what_comes_later() -> None:
    go = asyncio.Event()
    connection, tasks = await asked(b"GET /later HTTP/1.1\r\nhost: x\r\n\r\n", {"go": go})
    for _ in range(3):  # the request's task, its head, the turn after it
        await asyncio.sleep(0)
    assert [write[-4:] for write in connection.writes] == [b"\r\n\r\n"]
    go.set()
    await asyncio.gather(*tasks)
    assert connection.writes[1:] == [b"hel", b"lo"]


async def test_what_is_kept_leaves_before_the_connection_closes() -> None:
    connection, _ = await asked(b"nonsense\r\n\r\n", {})
    assert connection.closed_after == 1
    assert connection.writes[0].startswith(b"HTTP/1.1 400")


async def test_nothing_is_written_to_a_client_that_has_left() -> None:
    go = asyncio.Event()
    connection, tasks = await asked(b"GET /later HTTP/1.1\r\nhost: x\r\n\r\n", {"go": go})
    await asyncio.sleep(0)  # the request's task, which says the head
    connection.close()
    await asyncio.sleep(0)
    assert connection.writes == []
    go.set()
    await asyncio.gather(*tasks)
