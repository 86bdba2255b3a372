"""The load: clients that each send the next request when their answer is whole, in a process of their own.

    python -m benchmarks.gateway.load < plan.json

The plan is a `Plan` as JSON; what was measured is written as JSON. Clients are bare asyncio protocols, cheap enough
for one process to ask several thousand times a second.
"""

import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import httptools
import psutil
import uvloop


@dataclass(frozen=True)
class Plan:
    """What to ask: `clients` at once send `body` to the loopback's `port` with `key`, measured for `seconds`.

    `pid` is the server's process, 0 for none to watch.
    """

    port: int
    path: str
    body: str
    key: str
    clients: int
    seconds: float
    pid: int
    warm_up: float = 0.5


@dataclass(frozen=True)
class Measured:
    """Latencies in milliseconds; `cpu` is the server's, in milliseconds a request."""

    requests: int
    per_second: float
    p50: float
    p99: float
    cpu: float


class Client(asyncio.Protocol):
    """One connection: sends `request` again and again until `until`, and notes when each answer was whole."""

    def __init__(self, request: bytes, until: float, done: asyncio.Future[None]) -> None:
        self.answers: list[tuple[float, float]] = []
        self._request = request
        self._until = until
        self._done = done
        self._sent = 0.0
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport: Any = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Read a part of an answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Note the answer and ask again, or stop."""
        if self._parser.get_status_code() != 200:
            self._end(RuntimeError(f"the server answered {self._parser.get_status_code()}"))
            return
        self.answers.append((self._sent, time.perf_counter()))
        if self.answers[-1][1] >= self._until:
            self._end(None)
            return
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        """A server that hangs up in between is a failure."""
        self._end(error or ConnectionError("the server closed the connection"))

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _end(self, error: Exception | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)
        self._transport.close()


async def measure(plan: Plan) -> Measured:
    """Carry out a plan: warm up, then measure."""
    loop = asyncio.get_running_loop()
    body = plan.body.encode()
    head = (
        f"POST {plan.path} HTTP/1.1\r\nhost: 127.0.0.1:{plan.port}\r\nauthorization: Bearer {plan.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    begin = time.perf_counter() + plan.warm_up
    end = begin + plan.seconds
    clients, ends = [], []
    for _ in range(plan.clients):
        done = loop.create_future()
        make = partial(Client, head.encode() + body, end, done)
        _, client = await loop.create_connection(make, "127.0.0.1", plan.port)
        clients.append(client)
        ends.append(done)
    await asyncio.sleep(max(0.0, begin - time.perf_counter()))
    used = _cpu_seconds(plan.pid)
    await asyncio.sleep(max(0.0, end - time.perf_counter()))
    used = _cpu_seconds(plan.pid) - used
    await asyncio.gather(*ends)
    taken = sorted(1000 * (came - sent) for client in clients for sent, came in client.answers if begin <= came <= end)
    if not taken:
        raise RuntimeError(f"no request was answered within {plan.seconds:g} s")
    return Measured(
        requests=len(taken),
        per_second=len(taken) / plan.seconds,
        p50=statistics.median(taken),
        p99=taken[min(len(taken) - 1, int(len(taken) * 0.99))],
        cpu=1000 * used / len(taken),
    )


def _cpu_seconds(pid: int) -> float:
    if pid == 0:
        return 0.0
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(measure(Plan(**json.load(sys.stdin)))))))
