"""Compare arms over seeds: means with their standard errors, differences with intervals, and Pareto fronts.

A study is a randomised complete block design: each seed is a block of images and initial weights that all arms share.
Differences are judged by Tukey's intervals of that design, which hold for all pairs of arms at once: q sqrt(s^2 / n),
where q is the quantile of the studentised range, n the seeds, and s^2 the mean square of what neither arm nor seed
explains. With two arms that is the paired t interval.
"""

import functools
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95
MOST_SEEDS = 100
"""Seeds beyond which it is not said how many would distinguish two arms."""

TOLERANCE = 0.15
"""Part by which the compute of two runs may differ that still counts as equal."""

Values = Mapping[str, Mapping[int, float]]
"""A measurement of each arm, by seed."""


@dataclass(frozen=True)
class Mean:
    """The mean of an arm over `n` seeds, and its standard error; None where there is one seed."""

    value: float
    error: float | None
    n: int


@dataclass(frozen=True)
class Short:
    """A run that had clearly less compute than another one of its seed, in the same time: `had`, against `most`."""

    arm: str
    seed: int
    had: float
    most: float


@dataclass(frozen=True)
class Difference:
    """The mean difference of two arms over `n` seeds that both have, within `half` of which the true one is.

    The interval holds for all pairs of `arms` arms at once at a level of 95 %. `variance` is that of a run's
    measurement, without what its arm and its seed explain. With one seed neither is known.
    """

    value: float
    n: int
    half: float | None = None
    variance: float | None = None
    arms: int = 2

    @property
    def is_known(self) -> bool:
        """Return whether the interval leaves 0 out: the arms are distinguishable."""
        return self.half is not None and abs(self.value) > self.half

    @property
    def seeds_needed(self) -> int | None:
        """Return how many seeds would distinguish the arms if the difference is what it seems; None: too many."""
        if self.variance is None or not self.value:
            return None
        counts = range(2, MOST_SEEDS + 1)
        variance, arms, effect = self.variance, self.arms, abs(self.value)
        place = bisect_left(counts, True, key=lambda n: half_width(variance, arms, n) < effect)
        return counts[place] if place < len(counts) else None


def mean(values: Iterable[float]) -> Mean:
    """Return the mean of at least one value, with its standard error."""
    found = list(values)
    error = stdev(found) / math.sqrt(len(found)) if len(found) > 1 else None
    return Mean(fmean(found), error, len(found))


def complete(values: Values) -> dict[str, list[float]]:
    """Return the measurements of arms that have any, at the seeds that all of these have, in the order of seeds."""
    arms = {arm: by_seed for arm, by_seed in values.items() if by_seed}
    common = sorted(set.intersection(*(set(by_seed) for by_seed in arms.values()))) if arms else []
    return {arm: [by_seed[seed] for seed in common] for arm, by_seed in arms.items()} if common else {}


def difference(values: Values, arm: str, other: str) -> Difference | None:
    """Return by how much an arm is above another; None where they share no seed with all arms."""
    blocks = complete(values)
    if arm not in blocks or other not in blocks:
        return None
    n, value = len(blocks[arm]), fmean(blocks[arm]) - fmean(blocks[other])
    if n < 2 or len(blocks) < 2:
        return Difference(value, n, arms=len(blocks))
    variance = residual_variance(list(blocks.values()))
    return Difference(value, n, half_width(variance, len(blocks), n), variance, len(blocks))


def residual_variance(rows: Sequence[Sequence[float]]) -> float:
    """Return the mean square of `rows` (arms x seeds) without the means of arms and of seeds."""
    seeds = [fmean(column) for column in zip(*rows, strict=True)]
    whole = fmean(seeds)
    squares = [(x - fmean(row) - seed + whole) ** 2 for row in rows for x, seed in zip(row, seeds, strict=True)]
    return sum(squares) / ((len(rows) - 1) * (len(seeds) - 1))


def half_width(variance: float, arms: int, seeds: int) -> float:
    """Return half of the interval of each difference of two of `arms` arms with two or more seeds."""
    return _quantile(arms, seeds) * math.sqrt(variance / seeds)


@functools.cache
def _quantile(arms: int, seeds: int) -> float:
    if arms == 2:  # that of Student's t for a difference, at once and exactly
        from scipy.special import stdtrit

        return math.sqrt(2) * float(stdtrit(seeds - 1, (1 + LEVEL) / 2))
    from scipy.stats import studentized_range  # late: it takes a second to import

    return float(studentized_range.ppf(LEVEL, arms, (arms - 1) * (seeds - 1)))


def short_of_compute(compute: Values, tolerance: float = TOLERANCE) -> list[Short]:
    """Return the runs whose compute was not equal: each had less than another one of its seed, by `tolerance`.

    Seeds are not compared with each other: what all runs of one had less of is taken out with its mean.

    Args:
        compute: of each run, in any unit; runs of which it is not known are absent.
        tolerance: relative difference up to which two runs count as equal.
    """
    seeds = sorted({seed for by_seed in compute.values() for seed in by_seed})
    most = {seed: max(by_seed[seed] for by_seed in compute.values() if seed in by_seed) for seed in seeds}
    return [
        Short(arm, seed, had, most[seed])
        for arm, by_seed in compute.items()
        for seed, had in sorted(by_seed.items())
        if had < (1 - tolerance) * most[seed]
    ]


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the names on the Pareto front of (cost, value), the cheapest first: none is cheaper and as good.

    Of points that are equal the first one counts.
    """
    found, best = [], -math.inf
    for name, (_, value) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if value > best:
            found.append(name)
            best = value
    return found
