"""Memory of this machine and of this process."""

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
_PROCESS = Path("/proc/self")


def available() -> int:
    """Return the bytes of RAM free to this process: of the machine, or of its container where that is less."""
    free = int(psutil.virtual_memory().available)
    for folder, limit_name, used_name in _CGROUPS:
        try:
            limit, used = (folder / limit_name).read_text().strip(), int((folder / used_name).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit.isdigit():
            used -= int(stat.get("inactive_file", 0))  # cached files are evicted on demand
            free = min(free, max(int(limit) - used, 0))
    return free


def resident() -> int:
    """Return the bytes of RAM that this process holds after it has returned what it freed."""
    release()
    return _rss()


def release() -> None:
    """Return freed memory to the system: of the C library, and of PyTorch's CUDA allocator."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    torch.cuda.empty_cache()  # without CUDA nothing happens


def in_use(device: torch.device) -> int:
    """Return the bytes in use now: of GPU memory on a GPU, else of this process."""
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else _rss()


def peak(device: torch.device) -> int:
    """Return the largest number of bytes in use so far: of GPU memory on a GPU, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def peak_during(call: Callable[[], object], device: torch.device) -> int | None:
    """Return the peak bytes of `call` above those in use before; None where the system does not report them.

    Note:
        Resets the peak that `peak` returns.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return int(torch.cuda.max_memory_allocated(device)) - before
    before = resident()  # freed memory that the process still holds would hide what `call` takes
    try:
        _PROCESS.joinpath("clear_refs").write_text("5")  # Linux: resets the high-water mark
    except OSError:
        call()
        return None
    call()
    found = re.search(r"VmHWM:\s*(\d+)", _PROCESS.joinpath("status").read_text())
    return int(found[1]) * 1024 - before if found else None


def _rss() -> int:
    return int(psutil.Process().memory_info().rss)
