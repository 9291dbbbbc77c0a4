"""Divide a study's time over its arms and seeds, and order its runs: arithmetic only, without torch.

All runs of a study share one unit: seconds where arms have equal time, epochs where they train equally long. A run of
an arm takes `weight` seconds a unit, and every run in addition the seconds until it trains and those of its evaluation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ssl_cli.config.units import format_seconds, format_time
from ssl_cli.errors import UsageError
from ssl_cli.names import counted

MARGIN, FINE = 1.1, 600.0
"""How much more is suggested than what plans expect, as the next ones may expect more; and seconds written as such."""


@dataclass(frozen=True)
class Cost:
    """What a run of an arm takes.

    Attributes:
        name: of the arm.
        weight: seconds of training for each unit of the budget.
        least: seconds that training takes at least, to be worth comparing.
        overhead: seconds before and after training.
        most: seconds of training that are enough, whatever the unit.
    """

    name: str
    weight: float
    least: float
    overhead: float
    most: float = math.inf

    def seconds(self, unit: float) -> float:
        """Return the seconds of a whole run."""
        return self.overhead + min(unit * self.weight, self.most)


def divide(seconds: float, costs: Sequence[Cost], seeds: int) -> float:
    """Return the unit with which all runs together take `seconds`: seconds, or epochs, of an arm whose share is 1.

    Raises:
        UsageError: an arm would train for less than it takes at least; the hint says what the time is enough for.
    """
    unit = _unit(seconds, costs, seeds)
    if any(unit * cost.weight < cost.least for cost in costs):
        runs = f"{len(costs) * seeds} runs ({len(costs)} arms, {counted(seeds, 'seed')})"
        least = format_seconds(needed(costs, seeds))
        left = format_seconds(max(seconds, 0))
        what = f"The time is too short for {runs}: they need about {least}, and {left} are left for them."
        raise UsageError(what, possible(seconds, costs, seeds))
    return unit


def _unit(seconds: float, costs: Sequence[Cost], seeds: int) -> float:
    """Return the unit at which the runs take the time: those that have enough leave the rest to the others."""
    room, weight = seconds / seeds - sum(cost.overhead for cost in costs), sum(cost.weight for cost in costs)
    for cost in sorted(costs, key=lambda cost: cost.most / cost.weight if cost.weight else math.inf):
        if room / weight * cost.weight <= cost.most or weight <= cost.weight:
            break
        room, weight = room - cost.most, weight - cost.weight
    return room / weight


def needed(costs: Sequence[Cost], seeds: int) -> float:
    """Return the seconds of a study in which every arm trains for as long as it takes at least."""
    unit = max(cost.least / cost.weight for cost in costs if cost.weight)
    return seeds * sum(cost.seconds(unit) for cost in costs)


def possible(seconds: float, costs: Sequence[Cost], seeds: int) -> str:
    """Say what a time that is too short for all runs is enough for, and what all of them need."""
    ways = []
    fewer = [count for count in range(1, seeds) if needed(costs, count) <= seconds]
    if fewer:
        ways.append(f"--seeds {fewer[-1]}")
    for count in (seeds, 1):  # the first arms of the table, with all seeds, or else with one
        some = [k for k in range(2, len(costs)) if needed(costs[:k], count) <= seconds]
        if some:
            names = ",".join(cost.name for cost in costs[: some[-1]])
            ways.append(f"--arms {names}" + (f" --seeds {count}" if count != seeds else ""))
            break
    whole = f"--time {_written(MARGIN * needed(costs, seeds))} is enough for all."
    return f"In this time it can do {', or '.join(ways)}; {whole}" if ways else f"Pass more: {whole}"


def _written(seconds: float) -> str:
    return f"{math.ceil(seconds)}s" if seconds < FINE else format_time(seconds)


def order(arms: Sequence[str], seeds: Sequence[int], start: Mapping[str, str] | None = None) -> list[tuple[str, int]]:
    """Return arm and seed of each run, in turns: a round for each seed, which starts with another arm each time.

    A machine that becomes slower, or is busy for a while, so favours no arm. An arm that starts from another one's run
    comes after it.

    Args:
        arms: in the order of the table.
        seeds: one for each round.
        start: for an arm the one whose run it starts from, or an empty name.
    """
    found = []
    for number, seed in enumerate(seeds):
        place = number % len(arms)
        turn = [*arms[place:], *arms[:place]]
        chain = (name for arm in turn for name in (*reversed(starts(arm, start or {})), arm))
        found += [(arm, seed) for arm in dict.fromkeys(chain)]
    return found


def starts(arm: str, start: Mapping[str, str]) -> list[str]:
    """Return the arms that must have run before an arm, the latest first."""
    found = list[str]()
    while arm := start.get(arm, ""):
        found.append(arm)
    return found
