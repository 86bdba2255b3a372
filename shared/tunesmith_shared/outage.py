"""Work in the background that outlasts a database which is away for a while, where a request is answered with 503."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.exc import DBAPIError

from tunesmith_shared.database import failure
from tunesmith_shared.errors import Unavailable

PAUSE_SECONDS = 1.0
_logger = logging.getLogger("tunesmith.outage")

Result = TypeVar("Result")
Given = ParamSpec("Given")


async def outlast(action: Callable[[], Awaitable[Result]]) -> Result:
    """Return what `action` gives, called again for as long as the database is away when it is called.

    `action` must be one that can be repeated: a transaction that broke off may have been committed. Raises what
    `action` raises for any other reason; it waits without limit, and ends when it is cancelled.
    """
    while True:
        try:
            return await action()
        except DBAPIError as error:
            if not is_away(error):
                raise
            _logger.warning("the database is away; going on when it is back")
        await asyncio.sleep(PAUSE_SECONDS)


def outlasting(action: Callable[Given, Awaitable[Result]]) -> Callable[Given, Coroutine[Any, Any, Result]]:
    """Make a function of `action` that calls it by `outlast`."""

    @wraps(action)
    async def repeated(*arguments: Given.args, **named: Given.kwargs) -> Result:
        return await outlast(lambda: action(*arguments, **named))

    return repeated


def is_away(error: Exception) -> bool:
    """Whether `error` says that the database cannot be reached, which passes."""
    return isinstance(error, DBAPIError) and isinstance(failure(error), Unavailable)
