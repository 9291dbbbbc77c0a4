"""What a study found so far: a row for each arm, Pareto fronts, and advice. Pure functions of its file."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ssl_cli.config.units import format_bytes, format_seconds, format_time
from ssl_cli.study.book import SHARE, Book, Planned
from ssl_cli.study.statistics import Difference, Mean, Short, difference, front, mean, short_of_machine
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
        """Return the quality that decides: kNN where there are labels, else consistency."""
        return next((name for name in QUALITIES if any(self.book.values(name).values())), "knn")

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
        """Return the runs that had less of the machine than others of their seed, where equal time is what counts."""
        of_time = self.is_cost or self.book.about.equal == "time"
        return short_of_machine(self.book.values(SHARE)) if of_time else []

    @cached_property
    def warnings(self) -> list[str]:
        """Return a sentence on the arms that had less of the machine than others in the same time, if there are any."""
        arms = dict.fromkeys(run.arm for run in self.short)
        if not arms:
            return []
        worst = min(self.short, key=lambda run: run.share / run.most)
        return [
            f"The machine was busy: {', '.join(arms)} had less of it than other arms of the same seed "
            f"({worst.arm}, seed {worst.seed}: {worst.share:.0%} of the cores against {worst.most:.0%}), so their time "
            "is not equal. Run the study again with another --out while nothing else runs."
        ]

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

    def advice(self) -> str:
        """Return one sentence or two: which arm suits these images on this machine, or what would distinguish them."""
        if self.is_cost:
            return self._costs()
        said = {group: self._advice(group) for group in self.groups}
        return " ".join(f"{group[0].upper()}{group[1:]}: {words}" if group else words for group, words in said.items())

    def _advice(self, group: str) -> str:
        """Return the advice on the arms of a group."""
        best = self._best(group)
        if not best:
            return "No run has a result." if self.book.results else "No run has ended yet."
        if len(best) == 1:
            return f"Only {best[0].arm.name} has a result: there is nothing to compare it with."
        one, two = best[0].arm.name, best[1].arm.name
        if {one, two} & {run.arm for run in self.short}:
            return f"{one} and {two} are not comparable: they had the same time, but not the same of the machine."
        found = self.difference(one, two)
        if found is None:
            return f"{one} has the best {QUALITIES[self.quality]} so far; runs to compare it with are missing."
        if found.half is None:
            return f"One seed distinguishes no arms. {one} is {points(found)} points above {two} on it; pass --seeds 3."
        how = f"{points(found)} points of {QUALITIES[self.quality]} (95 % interval, {found.n} seeds)"
        if found.is_known:
            return f"On these images and this machine take {one}: {how} above {two}. {self._price(best[:2])}"
        return f"{one} and {two} are not distinguishable here: {how}. {self._more(found)}"

    def _costs(self) -> str:
        """Return what each arm takes in time an image and in memory, as a multiple of what the first one takes."""
        first, *others = self.rows
        words = []
        for row in others:
            seconds, peak = row.thousand / first.thousand, row.peak / first.peak
            planned = "" if row.arm.trained and first.arm.trained else " (plan)"
            if {row.arm.name, first.arm.name} & {run.arm for run in self.short}:
                planned = " (not comparable: the machine was busy)"
            words.append(f"{row.arm.name} {seconds:.2f} times the time and {peak:.2f} times the memory{planned}")
        return f"Against {first.arm.name}: {'; '.join(words)}."

    def _best(self, group: str) -> list[Row]:
        """Return arms, best first: in a rivalry the best one of each method, of those that had all of the time."""
        of_group = [row for row in self.rows if row.arm.group == group]
        rows = [row for row in of_group if self.quality in row.means and not row.failed]
        ranked = sorted(rows, key=lambda row: -row.means[self.quality].value)
        if self.book.asked.name != RIVALRY:
            return ranked
        best, full = dict[str, Row](), max(arm.share for arm in self.book.arms)
        for row in ranked:
            if row.arm.share == full:
                best.setdefault(row.arm.method, row)
        return list(best.values())

    def _price(self, rows: Sequence[Row]) -> str:
        words = []
        for row in rows:
            seconds, peak = row.cost.get("seconds"), row.cost.get("peak_memory")
            if seconds is not None and peak is not None:
                words.append(f"{row.arm.name} takes {format_seconds(seconds)} a run and {format_bytes(peak)}")
        return f"{', '.join(words)}." if words else ""

    def _more(self, found: Difference) -> str:
        seeds, asked = found.seeds_needed, self.book.asked
        if seeds is None:
            return "If the difference is what it seems, not even 100 seeds would show it: take whichever is cheaper."
        seeds = max(seeds, found.n + 1)
        budget = f"--time {format_time(asked.time * seeds / asked.seeds)} --seeds {seeds}"
        return f"If the difference is what it seems, about {seeds} seeds would show it: {budget}."


def points(found: Difference) -> str:
    """Format a difference in points, with its interval."""
    half = "" if found.half is None else f" ± {100 * found.half:.1f}"
    return f"{100 * found.value:+.1f}{half}"
