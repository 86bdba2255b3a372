"""How much memory there is to use: the machine's, or the container's when that is less."""

import os
from pathlib import Path

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container sees its own limit: control groups of version 2 and of version 1."""


def usable_memory(limit_files: tuple[Path, ...] = CGROUP_LIMITS) -> int:
    """Return the bytes that this process and its children may use together; swap does not count."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in limit_files:
        if file.is_file() and (limit := file.read_text().strip()).isdigit():  # "max" is no limit
            memory = min(memory, int(limit))
    return memory
