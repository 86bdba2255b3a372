"""Start a command so that it never outlives the process that asked for it.

    python -m tunesmith_finetune.child <nice> <command> <argument>...

The parent starts this as the leader of a new process group. When the parent dies, however it dies, the kernel sends
SIGTERM here, and the whole group goes. The exit status is the command's; 128 + n when signal n ended it.
"""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1


def main(nice: int, command: list[str]) -> int:
    """Run `command` at `nice` and give its exit status."""
    signal.signal(signal.SIGTERM, _end_group)
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        with suppress(OSError):  # if memory runs out, this goes and not a service
            Path("/proc/self/oom_score_adj").write_text("900")
    if os.getppid() != parent:
        _end_group(signal.SIGTERM, None)
    os.nice(nice)
    status = subprocess.Popen(command).wait()
    return status if status >= 0 else 128 - status


def _end_group(_signal: int, _frame: FrameType | None) -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
