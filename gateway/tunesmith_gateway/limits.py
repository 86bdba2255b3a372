"""What a key may use, and how many generations run and wait: the policy, apart from HTTP.

Rates are token buckets (https://en.wikipedia.org/wiki/Token_bucket): a full minute's worth at first, refilled evenly.
Model tokens are counted after the fact, so their bucket may go below zero, and new generations wait until it is
above. Everything here lives in one process: several gateways over one database each allow the full limits.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import Gauge

from tunesmith_gateway.usage import Spending
from tunesmith_shared.errors import TooManyRequests, Unavailable

_QUEUE_RETRY_SECONDS = 5
_generations = Gauge("tunesmith_generations", "Generations that run and that wait.", ["state"])


@dataclass(frozen=True)
class Limits:
    """A key's limits; 0 is none. Rates are a minute, `concurrency` counts generations at once."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0

    def overridden(self, own: Mapping[str, int]) -> "Limits":
        """Return these limits with a key's own in their place."""
        return Limits(**{**self.__dict__, **own}) if own else self


@dataclass
class _Bucket:
    """What is left of a minute's worth. It may go below zero, and fills up by `rate` a minute."""

    level: float
    moment: float

    def refill(self, rate: int, moment: float) -> None:
        self.level = min(float(rate), self.level + (moment - self.moment) * rate / 60)
        self.moment = moment

    def wait(self, rate: int, needed: float) -> int:
        """Return the whole seconds until `needed` is there, at least 1."""
        return max(1, math.ceil((needed - self.level) * 60 / rate))


@dataclass
class _Use:
    """What one key has used: its buckets, made when a limit is first applied, and its running generations."""

    requests: _Bucket | None = None
    tokens: _Bucket | None = None
    running: int = 0


@dataclass
class Limiter:
    """Counts what keys use. The number of keys bounds its memory; `clock` is in seconds."""

    defaults: Limits
    clock: Callable[[], float] = time.monotonic
    _uses: dict[str, _Use] = field(default_factory=dict)

    def count_request(self, key_id: str, own: Mapping[str, int]) -> None:
        """Count a request. Raises `TooManyRequests`."""
        rate = self.defaults.overridden(own).requests_per_minute
        if rate == 0:
            return
        use = self._use(key_id)
        use.requests = bucket = self._filled(use.requests, rate)
        if bucket.level < 1:
            raise TooManyRequests(
                f"This API key may send {rate} requests a minute.",
                code="rate_limit_exceeded",
                retry_after=bucket.wait(rate, 1),
            )
        bucket.level -= 1

    def begin(self, key_id: str, own: Mapping[str, int]) -> Spending:
        """Count a generation that begins; `end` it. Raises `TooManyRequests`."""
        limits, use = self.defaults.overridden(own), self._use(key_id)
        if limits.tokens_per_minute:
            use.tokens = bucket = self._filled(use.tokens, limits.tokens_per_minute)
            if bucket.level <= 0:
                raise TooManyRequests(
                    f"This API key may use {limits.tokens_per_minute} tokens a minute.",
                    code="rate_limit_exceeded",
                    retry_after=bucket.wait(limits.tokens_per_minute, 1),
                )
        if limits.concurrency and use.running >= limits.concurrency:
            raise TooManyRequests(
                f"This API key may run {limits.concurrency} generations at once.",
                code="concurrency_limit_exceeded",
                retry_after=1,
            )
        use.running += 1
        return Spending(metered=limits.tokens_per_minute > 0)

    def end(self, key_id: str, spending: Spending) -> None:
        """Count a generation that ended, with the tokens that it took."""
        use = self._use(key_id)
        use.running -= 1
        if use.tokens is not None:
            use.tokens.level -= spending.tokens

    def _use(self, key_id: str) -> _Use:
        return self._uses.setdefault(key_id, _Use())

    def _filled(self, bucket: _Bucket | None, rate: int) -> _Bucket:
        moment = self.clock()
        bucket = bucket or _Bucket(float(rate), moment)
        bucket.refill(rate, moment)
        return bucket


class GenerationQueue:
    """At most `running` generations at once, at most `waiting` more in the order in which they came.

    0 running is no limit. A generation that stops waiting (because its client left) gives its place back at once.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._most_running = running
        self._most_waiting = waiting
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.running = 0

    def show(self) -> None:
        """Let `/metrics` of this process tell how many run and wait."""
        _generations.labels("running").set_function(lambda: self.running)
        _generations.labels("waiting").set_function(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """How many generations wait."""
        return len(self._waiting)

    @property
    def would_wait(self) -> bool:
        """Whether a generation that came now would not run at once."""
        return self._most_running > 0 and (self.running >= self._most_running or bool(self._waiting))

    def refuse_when_full(self) -> None:
        """Raise `Unavailable` when there is no place to wait in."""
        if self.would_wait and self.waiting >= self._most_waiting:
            raise Unavailable(
                f"{self.waiting} requests are waiting for a model already. Try again soon.",
                code="queue_full",
                retry_after=_QUEUE_RETRY_SECONDS,
            )

    def enter_at_once(self) -> bool:
        """Take a place among the running where one is free; `leave` gives it back."""
        free = not self.would_wait
        self.running += free
        return free

    async def enter(self) -> None:
        """Wait for a place among the running and take it; `leave` gives it back. Raises `Unavailable` when full."""
        if self.enter_at_once():
            return
        self.refuse_when_full()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place came in the moment in which nobody wanted it any more
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place to the first that waits, or back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
