"""Which process of how many this one is: told by torch's launchers in the environment, and read without torch."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """One process among those that train together.

    Attributes:
        rank: which one, from 0. The first one alone draws, writes and evaluates.
        size: how many there are.
        local_rank: which one on its machine: the number of its card.
        local_size: how many there are on its machine, which share its processors and memory.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks for all."""
        return self.rank == 0


def world() -> World:
    """The world by `RANK`, `WORLD_SIZE`, `LOCAL_RANK` and `LOCAL_WORLD_SIZE`; of one process without them."""
    size = _number("WORLD_SIZE", 1)
    if size <= 1:
        return World()
    return World(_number("RANK", 0), size, _number("LOCAL_RANK", 0), max(_number("LOCAL_WORLD_SIZE", 1), 1))


def plan_for(processes: int) -> None:
    """Let this process, before it imports torch, plan as if so many were to run on this machine."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // processes, 1)))
    os.environ.update(RANK="0", WORLD_SIZE=str(processes), LOCAL_RANK="0", LOCAL_WORLD_SIZE=str(processes))


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdigit() else default
