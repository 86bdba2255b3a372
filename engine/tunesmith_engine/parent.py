"""What a model process owes the process that started it: to end when that one does."""

import contextlib
import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Let Linux kill this process when `parent` dies, and end at once when that has happened already.

    Loading a model holds the interpreter, so nothing else could notice; what is executed in this process's place keeps
    it. Elsewhere the end of the standard input has to tell.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
