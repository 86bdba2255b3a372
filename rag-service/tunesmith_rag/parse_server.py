"""The process that reading processes are forked from: `python -m tunesmith_rag.parse_server`.

Its standard input is a socket. Each byte that comes there brings the socket of a new process, which is that one's
standard input and output, and one end of a pipe, its leash: when nobody holds the other end any more, the process is
killed with those that it started. To start a Python with all libraries that read documents takes as long as reading
fifty pages; a fork takes milliseconds. This process never touches a document, and ends, with all that it forked, when
nobody can ask it any more.
"""

import gc
import os
import select
import signal
import socket
from contextlib import suppress
from typing import NoReturn

from tunesmith_rag import parse_child

_STDIN, _STDOUT = 0, 1
_FIRST_OTHER = 3
_DESCRIPTORS = 2
_HANG_UP_ONLY = 0


def main() -> None:
    """Fork a process for every byte on standard input, until that is closed."""
    gc.freeze()  # otherwise collecting in a new process touches, and so copies, all that it shares with this one
    channel = socket.socket(fileno=os.dup(_STDIN))
    told = select.poll()
    told.register(channel, select.POLLIN)
    processes: dict[int, int] = {}
    """By the descriptor of the leash."""
    try:
        while True:
            for descriptor, _ in told.poll():
                if descriptor != channel.fileno():
                    told.unregister(descriptor)
                    _end(processes.pop(descriptor), descriptor)
                    continue
                asked, received, _, _ = socket.recv_fds(channel, 1, _DESCRIPTORS)
                if not asked:
                    return
                connection, leash = received
                processes[leash] = _fork(connection)
                told.register(leash, _HANG_UP_ONLY)
    finally:
        for leash, process in processes.items():
            _end(process, leash)


def _fork(connection: int) -> int:
    """Return the process that follows the orders on `connection`; 0 when the system has no more, and then whoever waits
    there reads its end.
    """
    process = 0
    with suppress(OSError):
        process = os.fork()
        if process == 0:
            _read(connection)
        os.setpgid(process, process)  # here and there, since either may be first
    os.close(connection)
    return process


def _read(connection: int) -> NoReturn:
    """Read a document in this new process, which leads a group of its own, and never return to what forked it."""
    try:
        os.setpgid(0, 0)
        os.dup2(connection, _STDIN)
        os.dup2(connection, _STDOUT)
        os.closerange(_FIRST_OTHER, os.sysconf("SC_OPEN_MAX"))
        parse_child.main()
    finally:
        os._exit(0)


def _end(process: int, leash: int) -> None:
    os.close(leash)
    if process:
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)


if __name__ == "__main__":
    main()
