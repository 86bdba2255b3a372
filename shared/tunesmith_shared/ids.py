"""Identifiers: a prefix that says what it names, then 24 characters that sort by the time of creation."""

import os
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_DIGITS = (_ALPHABET * 8).encode()
"""The digit that each byte becomes: all are as likely."""

_SHIFTS = range(50, -1, -5)
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
    made = "".join([_ALPHABET[moment >> shift & 31] for shift in _SHIFTS])
    return f"{prefix}-{made}{os.urandom(13).translate(_DIGITS).decode()}"
