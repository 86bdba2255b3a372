"""The time, in one place, in the unit that every stored and public timestamp has."""

import time


def now() -> int:
    """Return the current time in whole seconds since 1970 (UTC), as OpenAI's `created_at` fields count it."""
    return int(time.time())
