"""What a study found so far: a row for each arm, and Pareto fronts. Pure functions of its file."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from ssl_cli.study.book import SHARE, Book, Planned
from ssl_cli.study.statistics import Difference, Mean, Short, difference, front, mean, short_of_compute
from ssl_cli.study.table import STUDIES

QUALITIES = {"classifier": "classifier", "knn": "kNN", "linear": "linear", "consistency": "consistency"}
"""Qualities of an encoder, fractions, and their words; the first that was measured is the one that decides."""
COSTS = {"seconds": "time", "peak_memory": "peak memory", "batch": "batch"}
RIVALRY, THOUSAND = "rivalry", "per_thousand"
NO_LABELS = "no labels: how often a view's nearest image is its own (consistency), on training images"


@dataclass(frozen=True)
class Row:
    """An arm: means over its seeds by name, the difference from its group's first arm, and how other runs ended."""

    arm: Planned
    means: dict[str, Mean]
    against: Difference | None
    failed: str

    @property
    def thousand(self) -> float:
        """Return the seconds of 1,000 images, those of its plan where no run has ended."""
        found = self.means.get(THOUSAND)
        return found.value if found else 1000 / self.arm.expected.get("rate", math.nan)

    @property
    def peak(self) -> float:
        """Return its peak bytes, those of its plan where no run has ended."""
        found = self.means.get("peak_memory")
        return found.value if found else self.arm.expected.get("peak_memory", math.nan)

    @property
    def cost(self) -> dict[str, float]:
        """Return what its runs cost, those of `COSTS` that are known."""
        found = {name: self.means[name].value for name in COSTS if name in self.means}
        return {**found, "batch": float(self.arm.batch)}


@dataclass(frozen=True)
class Summary:
    """The rows of a study, and what follows from them."""

    book: Book

    @cached_property
    def quality(self) -> str:
        """Return the quality that decides: the first that was measured, kNN as long as there is none."""
        return next(iter(self.qualities), "knn")

    @cached_property
    def qualities(self) -> list[str]:
        """Return the qualities that were measured."""
        return [name for name in QUALITIES if any(self.book.values(name).values())]

    @cached_property
    def rows(self) -> list[Row]:
        """Return a row for each arm, in the order of the table."""
        names = {name for result in self.book.results for name in result.numbers}
        values = {name: self.book.values(name) for name in sorted(names)}
        return [self._row(arm, values) for arm in self.book.arms]

    def _row(self, arm: Planned, values: dict[str, dict[str, dict[int, float]]]) -> Row:
        means = {name: mean(by_arm[arm.name].values()) for name, by_arm in values.items() if by_arm[arm.name]}
        first = self.first_of(arm.group)
        against = None if arm.name == first else self.difference(arm.name, first)
        ends = Counter(result.state for result in self.book.failed(arm.name))
        return Row(arm, means, against, ", ".join(f"{count} {state}" for state, count in ends.items()))

    def first_of(self, group: str) -> str:
        """Return the arm which the others of a group are compared with."""
        return next(arm.name for arm in self.book.arms if arm.group == group)

    @cached_property
    def groups(self) -> list[str]:
        """Return the groups within which arms are compared; one without a name where all arms are."""
        return list(dict.fromkeys(arm.group for arm in self.book.arms if arm.group)) or [""]

    def difference(self, arm: str, other: str) -> Difference | None:
        """Return by how much an arm's quality is above another's, over the seeds of arms of which no run failed.

        Arms of other groups have no part in it.
        """
        group, values = self.book.arm(arm).group, self.book.values(self.quality)
        of_group = {a.name: values[a.name] for a in self.book.arms if a.group == group}
        return difference({name: found for name, found in of_group.items() if not self.book.failed(name)}, arm, other)

    @cached_property
    def is_cost(self) -> bool:
        """Return whether the study measures memory and time alone."""
        return STUDIES[self.book.asked.name].is_cost

    @cached_property
    def short(self) -> list[Short]:
        """Return the runs that had less compute than others of their seed, where time is what counts.

        The compute of a run is the time that it took, times the share of the cores that other programs left to it, as a
        part of the time that it was given. Costs are by image: of these runs it is that share.
        """
        shares, seconds, about = self.book.values(SHARE), self.book.values("seconds"), self.book.about
        if self.is_cost:
            return short_of_compute(shares)
        if about.equal != "time":
            return []
        return short_of_compute(
            {
                arm.name: {
                    seed: share * seconds[arm.name][seed] / (arm.share * about.unit)
                    for seed, share in shares[arm.name].items()
                    if seed in seconds[arm.name]
                }
                for arm in self.book.arms
            }
        )

    @property
    def n(self) -> int:
        """Return how many seeds the comparison rests on."""
        name = THOUSAND if self.is_cost else self.quality
        return max((row.means[name].n for row in self.rows if name in row.means), default=0)

    def front(self, cost: str, quality: str) -> list[str]:
        """Return the arms on the Pareto front of a cost and a quality, the cheapest first."""
        rows = [row for row in self.rows if quality in row.means and cost in row.cost]
        return front({row.arm.name: (row.cost[cost], row.means[quality].value) for row in rows})

    def row(self, name: str) -> Row:
        """Return the row of an arm."""
        return next(row for row in self.rows if row.arm.name == name)
