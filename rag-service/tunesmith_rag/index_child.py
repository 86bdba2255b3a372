"""The process that has Chroma: `python -m tunesmith_rag.index_child`, started by `index_process.py`.

Chroma's own code holds Python's interpreter from the beginning of a write to its end, tens of milliseconds for a window
of chunks and longer for a large store. In the process of the service neither a request nor the embedding of the next
chunks would go on meanwhile.

Its standard input is a socket: orders come first and are answered when Chroma is open, then calls. When the service
closes it, or is gone, calls under way are finished, and the process ends.
"""

import os
import socket
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from tunesmith_rag.chroma import open_vectors
from tunesmith_rag.frames import frame, received
from tunesmith_rag.index_process import Answer, Orders
from tunesmith_rag.vectors import Vectors
from tunesmith_shared.errors import TunesmithError

_STDIN = 0
_THREADS = 4
_LAST_SECONDS = 20
"""For calls under way at the end; one that hangs must not keep the folder from the next owner."""


def main() -> None:
    """Open Chroma and answer calls until nobody can ask any more."""
    channel = socket.socket(fileno=os.dup(_STDIN))
    asked = channel.makefile("rb")
    sending = threading.Lock()

    def say(answer: bytes) -> None:
        with sending, suppress(OSError):  # nobody may be there any more
            channel.sendall(answer)

    orders: Orders = received(asked)
    try:
        chroma = open_vectors(orders.chroma_url, orders.data_dir, orders.owner, anew=orders.anew)
    except TunesmithError as error:
        say(frame(Answer(0, error=error)))
        return
    vectors = Vectors(chroma, orders.graph)
    say(frame(Answer(0, trace=chroma.trace)))
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="chroma")
    with suppress(EOFError):
        while True:
            number, name, *arguments = received(asked)
            threads.submit(lambda call: say(_answer(vectors, *call)), (number, name, arguments))
    last = threading.Timer(_LAST_SECONDS, os._exit, [1])
    last.daemon = True
    last.start()
    threads.shutdown(wait=True, cancel_futures=True)
    vectors.close()


def _answer(vectors: Vectors, number: int, name: str, arguments: Sequence[Any]) -> bytes:
    try:
        return frame(Answer(number, vectors.call(name, *arguments)))
    except TunesmithError as error:
        return frame(Answer(number, error=error))
    except BaseException as error:  # Chroma's panics are no `Exception`
        what = f"The vector database failed ({type(error).__name__}: {error})."
        return frame(Answer(number, error=TunesmithError(what), trace=traceback.format_exc()))


if __name__ == "__main__":
    main()
