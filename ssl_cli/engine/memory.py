"""How much memory there is, and how much this process holds."""

import resource
import sys
from pathlib import Path

import psutil

_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def available() -> int:
    """Bytes free to this process: of the machine, or of the container where that is less."""
    free = int(psutil.virtual_memory().available)
    for limit_file, used_file in _CGROUPS:
        try:
            limit, used = limit_file.read_text().strip(), used_file.read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            free = min(free, max(int(limit) - int(used), 0))
    return free


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """The most bytes of this process that were ever in memory at once."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
