"""Rank and world size of this process, which torch's launchers set in the environment; read without torch."""

import os
from dataclasses import dataclass

LAUNCHER = "sslcli"
"""Run id of `--devices`, by which a rank knows that its launcher reports errors."""


@dataclass(frozen=True)
class World:
    """Describe one process among those that train together.

    Attributes:
        rank: from 0; rank 0 alone logs, saves and evaluates.
        size: number of ranks.
        local_rank: rank on this machine, from 0: the index of its GPU.
        local_size: ranks on this machine, which share its cores and memory.
        launched: whether `--devices` started it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launched: bool = False

    @property
    def is_rank_zero(self) -> bool:
        """Return whether this rank logs, saves and evaluates."""
        return self.rank == 0


def world() -> World:
    """Read `RANK`, `WORLD_SIZE`, `LOCAL_RANK` and `LOCAL_WORLD_SIZE`; without them the world has one rank."""
    size = _number("WORLD_SIZE", 1)
    if size <= 1:
        return World()
    launched = os.environ.get("TORCHELASTIC_RUN_ID") == LAUNCHER
    return World(_number("RANK", 0), size, _number("LOCAL_RANK", 0), max(_number("LOCAL_WORLD_SIZE", 1), 1), launched)


def plan_for(ranks: int) -> None:
    """Set the environment of rank 0 of several on this machine, to plan for them; call before importing torch."""
    os.environ.setdefault("OMP_NUM_THREADS", str(default_threads(ranks)))
    os.environ.update(RANK="0", WORLD_SIZE=str(ranks), LOCAL_RANK="0", LOCAL_WORLD_SIZE=str(ranks))


def processors() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def default_threads(local_size: int | None = None) -> int:
    """Return the cores of each of the ranks on this machine: for torch, and for decoding."""
    return max(processors() // (local_size or world().local_size), 1)


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default
