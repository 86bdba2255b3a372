"""The answer to one line of a batch: as the endpoint gives it, with patience for a model server that is away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tunesmith_gateway.batches.lines import Line
from tunesmith_gateway.batches.results import answered, refused
from tunesmith_shared.errors import TooManyRequests, TunesmithError, Unavailable, UpstreamFailed, UpstreamTimeout
from tunesmith_shared.ids import new_id
from tunesmith_shared.logs import request_id
from tunesmith_shared.tables import Batch

Json = dict[str, Any]
Answer = Callable[[str, str, Json], Awaitable[Json]]
"""Answers the body of a request to an endpoint for an owner: `answer(owner, endpoint, body)`."""

MOST_BREAKS = 3
PATIENCE_SECONDS = 600.0
LONGEST_PAUSE = 30.0

_logger = logging.getLogger("tunesmith.batches")


class LineAnswerer:
    """Asks until there is an answer or an error that asking again would not change.

    A server that is away or busy is waited for, `PATIENCE_SECONDS` at the most; one that breaks off or does not answer
    in time is asked `MOST_BREAKS` times.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def answer(self, batch: Batch, line: Line) -> tuple[bool, str]:
        """Return whether there is an answer, and the line of the output or the error file."""
        identifier = new_id("req")
        request_id.set(identifier)
        try:
            body = await self._ask(batch, line)
        except TunesmithError as error:
            return False, refused(line.custom_id, identifier, error)
        except Exception as error:  # one line that we cannot handle must not stop the others
            _logger.error("line %d of %s failed", line.number, batch.id, exc_info=error)
            shown = TunesmithError(f"Something went wrong on our side ({identifier}).", code="internal_error")
            return False, refused(line.custom_id, identifier, shown)
        return True, answered(line.custom_id, identifier, body)

    async def _ask(self, batch: Batch, line: Line) -> Json:
        breaks, waited, pause = 0, 0.0, 0.5
        while True:
            try:
                return await self._answer(batch.owner, batch.endpoint, line.body)
            except (Unavailable, TooManyRequests):
                if waited >= PATIENCE_SECONDS:
                    raise
            except (UpstreamFailed, UpstreamTimeout):
                breaks += 1
                if breaks == MOST_BREAKS:
                    raise
            pause = min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)
            waited += pause
