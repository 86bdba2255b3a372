"""What the processor of this machine says that it can do."""

from contextlib import suppress
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux on x86-64 says it."""


def flags(cpuinfo: Path = CPUINFO) -> set[str]:
    """Return the flags of the first processor, such as `avx2`; none where the system does not say."""
    with suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    return set()
