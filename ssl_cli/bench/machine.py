"""Time calls in alternating rounds until a deadline, and measure what this machine can do at most."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch

from ssl_cli.events import Measured
from ssl_cli.nn.precision import autocast

ROUNDS, SAMPLE = 7, 0.04  # rounds at most; seconds that an arm takes in a round at least, in one or several calls
SIDE, ARRAY = {"cpu": 1024, "cuda": 8192}, {"cpu": 2**27, "cuda": 2**30}  # rows of a matrix; bytes of an array


class Arm(NamedTuple):
    """A call to time, and its `work`: how much one call does, in the unit that the rate counts per second."""

    work: float
    call: Callable[[], object]


class Machine:
    """Times calls on a device until `deadline` (of `time.perf_counter`); `found` collects the machine's own limits."""

    def __init__(self, device: torch.device, deadline: float) -> None:
        self.device, self.deadline, self.found = device, deadline, list[Measured]()
        self.matrix, self.memory = cache(self._matrix), cache(self._memory)

    def alternate(self, arms: Mapping[str, Arm]) -> dict[str, tuple[float, ...]]:
        """Return rates per second of all arms, timed in turns so that load on the machine affects all alike.

        Warm-up calls do not count, unless the deadline comes before a round; arms that were not called are absent.
        """
        once: dict[str, float] = {}
        for name, arm in arms.items():
            for _ in range(2):  # the first call compiles kernels and fills caches
                if not once or time.perf_counter() + once.get(name, 0.0) < self.deadline:
                    once[name] = self._seconds(arm, 1)
        counts = {name: math.ceil(SAMPLE / took) or 1 for name, took in once.items()}
        rates: dict[str, list[float]] = {name: [] for name in once}
        for turn in range(ROUNDS):
            if time.perf_counter() + sum(once[name] * counts[name] for name in once) > self.deadline:
                break
            for name in reversed(once) if turn % 2 else once:
                rates[name].append(arms[name].work * counts[name] / self._seconds(arms[name], counts[name]))
        return {name: tuple(rates[name] or [arms[name].work / once[name]]) for name in once}

    def best(self, unit: str, arms: Mapping[str, Arm]) -> float:
        """Measure these arms as limits of the machine and return the highest rate."""
        rates = self.alternate(arms)
        self.found += [measured(name, unit, found, machine=True) for name, found in rates.items()]
        return max(median(found) for found in rates.values())

    def _seconds(self, arm: Arm, count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            arm.call()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return max(time.perf_counter() - start, 1e-9)

    def _matrix(self, precision: str) -> float:
        """Return the FLOP/s of a large matrix product in `fp32`, `tf32` or `bf16`."""
        side = SIDE.get(self.device.type, SIDE["cpu"])
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a, b = (torch.rand(side, side, device=self.device).sub_(0.5).to(dtype) for _ in range(2))
        with autocast(self.device, "fp32")() if precision == "tf32" else nullcontext():
            return self.best("FLOP/s", {f"matrix {precision}": Arm(2 * side**3, lambda: torch.mm(a, b))})

    def _memory(self) -> float:
        """Return the bytes per second read and written, by the faster of a copy and a triad a + s*b."""
        count = ARRAY.get(self.device.type, ARRAY["cpu"]) // 4
        a, b, c = (torch.ones(count, device=self.device) for _ in range(3))
        copy, triad = (lambda: a.copy_(b)), (lambda: torch.add(b, c, alpha=3.0, out=a))
        return self.best("B/s", {"memory copy": Arm(8 * count, copy), "memory triad": Arm(12 * count, triad)})


def measured(name: str, unit: str, rates: tuple[float, ...], **fields: Any) -> Measured:
    """Return the event of these rates: median, quartiles and number, and further fields of `Measured`."""
    low, middle, high = quantiles(rates if len(rates) > 1 else 2 * rates, method="inclusive")
    return Measured(name=name, unit=unit, rate=middle, low=low, high=high, n=len(rates), **fields)
