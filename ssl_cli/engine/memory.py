"""How much memory there is, and how much this process holds."""

import resource
import sys
from pathlib import Path

import psutil
import torch

_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def available() -> int:
    """Bytes free to this process: of the machine, or of the container where that is less."""
    free = int(psutil.virtual_memory().available)
    for folder, limit_name, used_name in _CGROUPS:
        try:
            limit, used = (folder / limit_name).read_text().strip(), int((folder / used_name).read_text())
            facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit.isdigit():
            used -= int(facts.get("inactive_file", 0))  # cached files make room when it is wanted
            free = min(free, max(int(limit) - used, 0))
    return free


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(psutil.Process().memory_info().rss)


def in_use(device: torch.device) -> int:
    """Bytes held now: on the card where there is one, else by this process."""
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else resident()


def peak(device: torch.device) -> int:
    """The most bytes ever held at once: on the card where there is one, else by this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
