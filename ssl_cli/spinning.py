"""How long OpenMP's waiting threads spin: chosen before torch is imported, by how busy the machine is.

Between two parallel loops the threads of libgomp, PyTorch's OpenMP, spin until the next one begins. On a busy machine
spinning takes a core from the thread that the loop waits for, and a step takes several times as long; on an idle one,
sleeping costs a wake-up at each loop (`python -m tests.bench.spinning` measures both).
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ssl_cli.world import processors

STAT = Path("/proc/stat")
GIVEN = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")
"""Variables by which a user chooses; one of them set is respected."""
SHORT = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
"""On a busy machine: iterations of libgomp, milliseconds of Intel's and LLVM's OpenMP."""
BUSY = 0.3
"""Cores in use by other programs from which on the machine counts as busy."""


@dataclass(frozen=True)
class CpuTime:
    """Hold seconds of CPU time: `busy` of all processes on these cores, `here` of this one, `wall` of the cores.

    That of this one has that of the processes which it started and which have ended.
    """

    busy: float
    here: float
    wall: float


def cpu_time() -> CpuTime | None:
    """Read the CPU time used so far on the cores that this process may use; None where there is no /proc/stat."""
    try:
        cores = os.sched_getaffinity(0)
        lines = STAT.read_text(encoding="ascii").splitlines()
        tick = os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return None
    busy = wall = 0.0
    for line in lines:
        name, *numbers = line.split()
        if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, idle, waiting, *rest = map(int, numbers[:8])
            busy += (user + nice + system + sum(rest)) / tick
            wall += (user + nice + system + sum(rest) + idle + waiting) / tick
    times = os.times()
    return CpuTime(busy, times.user + times.system + times.children_user + times.children_system, wall)


def cores_in_use(before: CpuTime | None, after: CpuTime | None) -> float:
    """Return how many cores other programs used between two readings; 0 where that is not known."""
    if before is None or after is None or after.wall <= before.wall:
        return 0.0
    others = (after.busy - before.busy) - (after.here - before.here)
    return max(others, 0.0) / (after.wall - before.wall) * processors()


def share_left(before: CpuTime | None, after: CpuTime | None) -> float | None:
    """Return the share of the cores that other programs left between two readings; None where that is not known."""
    if before is None or after is None or after.wall <= before.wall:
        return None
    return min(max(1 - cores_in_use(before, after) / processors(), 0.0), 1.0)


def limit_spinning(in_use: float) -> None:
    """Let waiting threads spin briefly if other programs use cores, unless the user chose; before torch is imported.

    Note: sets environment variables, which OpenMP reads when torch is imported, here and in processes of this one.
    """
    global _seen
    if any(name in os.environ for name in GIVEN):
        return
    _seen = in_use
    if in_use >= BUSY:
        os.environ.update(SHORT)


def is_chosen_here() -> bool:
    """Return whether the variables of `SHORT`, if they are set, are of `limit_spinning` and not the user's."""
    return _seen is not None


def described() -> str:
    """Return in words how long threads spin and why, for the plan; empty where nothing was chosen or seen."""
    if _seen is None:
        return ", ".join(f"{name}={os.environ[name]}, as set" for name in GIVEN if name in os.environ)
    used = f"other programs used {_seen:.1f} of {processors()} cores at the start"
    return f"{used}, so waiting threads spin briefly" if _seen >= BUSY else used


_seen: float | None = None  # cores in use by other programs; None: not looked at, or the user chose
