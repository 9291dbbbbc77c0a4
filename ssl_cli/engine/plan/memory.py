"""How much memory there is, and how much this process holds."""

import contextlib
import ctypes
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_OWN = Path("/proc/self")


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
    """Bytes of this process in memory now, what it has freed given back."""
    release()
    return _rss()


def release() -> None:
    """Have the C library return to the system what this process has freed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _rss() -> int:
    return int(psutil.Process().memory_info().rss)


def in_use(device: torch.device) -> int:
    """Bytes held now: on the card where there is one, else by this process."""
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else _rss()


def taken_by(call: Callable[[], object], device: torch.device) -> int | None:
    """The most bytes that `call` held at once beyond those held before; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return int(torch.cuda.max_memory_allocated(device)) - before
    before = resident()  # with what is free given back, or it would hide what is taken
    try:
        _OWN.joinpath("clear_refs").write_text("5")  # Linux: the high water mark starts again from here
    except OSError:
        call()
        return None
    call()
    found = re.search(r"VmHWM:\s*(\d+)", _OWN.joinpath("status").read_text())
    return int(found[1]) * 1024 - before if found else None


def peak(device: torch.device) -> int:
    """The most bytes ever held at once: on the card where there is one, else by this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
