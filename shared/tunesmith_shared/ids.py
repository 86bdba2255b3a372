"""Identifiers: a prefix that says what it names, then 24 characters that sort by the time of creation."""

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [one + other for one in _ALPHABET for other in _ALPHABET]
"""What ten bits are written as."""

_SHIFTS = range(110, -1, -10)
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return `<prefix>-<24 characters>`: 11 of microseconds since 1970 and 13 (65 bits) of randomness.

    Ids of one process sort in the order in which they were made; those of two processes as well as their clocks agree.
    """
    global _last  # noqa: PLW0603 - the order within a process is what this remembers
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1_000)
        moment = _last
    number = moment << 65 | secrets.randbits(65)
    return f"{prefix}-{''.join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])}"
