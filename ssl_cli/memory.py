"""Memory of this machine and of this process."""

import contextlib
import ctypes
import functools
import re
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from ssl_cli import cgroups

_PROCESS = Path("/proc/self")


def available() -> int:
    """Return the bytes of RAM free to this process: of the machine, within the limits that it runs under."""
    on_machine, allowed = int(psutil.virtual_memory().available), within_limits()
    return on_machine if allowed is None else min(on_machine, allowed)


def free(device: torch.device) -> int:
    """Return the bytes that are free now: of GPU memory on a GPU, else of RAM for this process."""
    if device.type != "cuda":
        return available()
    release()  # cached blocks of PyTorch's allocator count as used
    return int(torch.cuda.mem_get_info(device)[0])


def within_limits() -> int | None:
    """Return the bytes that control groups and `ulimit` leave to this process; None where nothing limits it.

    Swap is not counted. Linux does not enforce a limit of resident memory, so none is read.
    """
    info = psutil.Process().memory_info()
    found = [cgroups.free()]
    for kind, used in ((resource.RLIMIT_AS, info.vms), (resource.RLIMIT_DATA, getattr(info, "data", 0))):
        limit = resource.getrlimit(kind)[0]
        found.append(None if limit == resource.RLIM_INFINITY else max(limit - used, 0))
    return min((bytes_left for bytes_left in found if bytes_left is not None), default=None)


@functools.cache
def require_threads(count: int) -> None:
    """Start so many threads and end them, then those of OpenMP: where it cannot start one, it ends the process.

    Raises:
        RuntimeError: they cannot be started.
    """
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait, daemon=True) for _ in range(count)]
    try:
        for thread in threads:
            thread.start()
    finally:
        ended.set()
    for thread in threads:
        thread.join()
    torch.ones(1 << 16).neg()  # OpenMP keeps the threads that it starts here


def resident() -> int:
    """Return the bytes of RAM that this process holds after it has returned what it freed."""
    release()
    return _rss()


def release() -> None:
    """Return freed memory to the system: of the C library, and of PyTorch's CUDA allocator."""
    trim()
    torch.cuda.empty_cache()  # without CUDA nothing happens


def trim() -> None:
    """Return the C library's freed memory to the system."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def in_use(device: torch.device) -> int:
    """Return the bytes in use now: of GPU memory on a GPU, else of this process."""
    return int(torch.cuda.memory_allocated(device)) if device.type == "cuda" else _rss()


def peak(device: torch.device) -> int:
    """Return the largest number of bytes in use so far: of GPU memory on a GPU, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if (most := _high_water()) is not None:
        return most
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


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
    most = _high_water()
    return None if most is None else most - before


def _high_water() -> int | None:
    """Return the largest resident bytes of this program; None where the system does not say.

    `getrusage` starts from what the process that started it had resident, which is no memory of this one.
    """
    try:
        found = re.search(r"VmHWM:\s*(\d+)", _PROCESS.joinpath("status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _rss() -> int:
    return int(psutil.Process().memory_info().rss)
