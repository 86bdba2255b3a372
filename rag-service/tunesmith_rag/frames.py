"""Python values on a socket between two processes of ours, each as the length of its pickle in eight bytes, and that.

Nothing but our own processes can write to such a socket: it is a pair without a name.
"""

import asyncio
import pickle
import struct
from typing import Any, BinaryIO

_LENGTH = struct.Struct("!Q")


def frame(value: object) -> bytes:
    """Return `value` as it is sent."""
    body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


def received(file: BinaryIO) -> Any:
    """Return the next value; raises `EOFError` when there is none, or not all of it."""
    return pickle.loads(_exactly(file, *_LENGTH.unpack(_exactly(file, _LENGTH.size))))  # noqa: S301 - our own


async def arrived(stream: asyncio.StreamReader) -> Any:
    """Return the next value; raises `EOFError` (`IncompleteReadError`) when there is none, or not all of it."""
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    return pickle.loads(await stream.readexactly(length))  # noqa: S301 - our own


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data
