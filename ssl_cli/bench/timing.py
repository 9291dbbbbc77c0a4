"""Rates of calls that take turns, so that what else the machine does meets them all alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from ssl_cli.engine.plan.measure import synchronize
from ssl_cli.events import Measured

REPEATS, FEWEST = 7, 5
LONG = 2.0
"""Seconds of a round from which on the fewest repeats must do."""
Name = TypeVar("Name", str, int)
SAMPLE = 0.04
"""Seconds that one measurement takes at least, in as many calls as that needs."""


@dataclass(frozen=True)
class Arm:
    """Something to time.

    Attributes:
        work: what one call does, counted in whatever the rate is per second of.
        call: does it.
    """

    work: float
    call: Callable[[], object]


@dataclass(frozen=True)
class Rates:
    """What was measured of one arm, per second."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the measurements are above it."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Half of the measurements are between them."""
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def measured(
        self,
        name: str,
        unit: str,
        *,
        machine: bool = False,
        bounds: Mapping[str, float] | None = None,
        reference: "Rates | None" = None,
        against: str = "",
    ) -> Measured:
        """The event that tells of it."""
        low, high = self.quartiles
        return Measured(
            name=name,
            unit=unit,
            rate=self.median,
            low=low,
            high=high,
            n=len(self.values),
            machine=machine,
            bounds=bounds or {},
            reference=reference.median if reference else None,
            against=against if reference else "",
        )


def alternate(arms: Mapping[Name, Arm], device: torch.device) -> dict[Name, Rates]:
    """Measure all arms in turns, each round the other way about; warm-up calls are left out."""
    calls, seconds = {}, 0.0
    for name, arm in arms.items():
        _seconds(arm, 1, device)  # builds kernels, fills caches
        once = _seconds(arm, 1, device)
        calls[name] = max(1, math.ceil(SAMPLE / max(once, 1e-9)))
        seconds += once * calls[name]
    names: Sequence[Name] = list(arms)
    rates: dict[Name, list[float]] = {name: [] for name in names}
    for _ in range(FEWEST if seconds > LONG else REPEATS):
        for name in names:
            arm, count = arms[name], calls[name]
            rates[name].append(arm.work * count / _seconds(arm, count, device))
        names = names[::-1]
    return {name: Rates(tuple(values)) for name, values in rates.items()}


def _seconds(arm: Arm, count: int, device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    for _ in range(count):
        arm.call()
    synchronize(device)
    return max(time.perf_counter() - began, 1e-9)
