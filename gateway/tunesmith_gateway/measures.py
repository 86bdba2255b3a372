"""What `/metrics` tells of generations: how long they wait, when their first token comes, how fast they are."""

import time

from prometheus_client import Counter, Histogram
from starlette.types import Scope

from tunesmith_gateway.usage import Spending
from tunesmith_shared.middleware import FIRST_PART

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

_waited = Histogram("tunesmith_queue_wait_seconds", "Time until a generation had its place.", buckets=_SECONDS)
_first = Histogram(
    "tunesmith_time_to_first_token_seconds", "From its place to a stream's first part.", buckets=_SECONDS
)
_speed = Histogram("tunesmith_tokens_per_second", "Tokens that a generation wrote, a second.", ["kind"], buckets=_RATES)
_streams, _wholes = _speed.labels("stream"), _speed.labels("whole")
_tokens = Counter("tunesmith_tokens", "Tokens of generations, by their own accounts.", ["kind"])
_read, _written = _tokens.labels("prompt"), _tokens.labels("completion")


class Measure:
    """One generation, from the moment it asks for a place."""

    def __init__(self) -> None:
        self._came = self._began = time.perf_counter()

    def begins(self) -> None:
        """Note that it has its place."""
        self._began = time.perf_counter()
        _waited.observe(self._began - self._came)

    def ended(self, scope: Scope, spent: Spending) -> None:
        """Count it, whole or broken off. A whole answer's speed has the reading of its prompt in it."""
        now = time.perf_counter()
        first: float | None = scope.get(FIRST_PART)
        if first is not None:
            _first.observe(first - self._began)
        _read.inc(max(0, spent.tokens - spent.written))
        _written.inc(spent.written)
        if spent.written and first is None:
            _wholes.observe(spent.written / (now - self._began))
        elif spent.written > 1 and first is not None and now > first:
            _streams.observe((spent.written - 1) / (now - first))
