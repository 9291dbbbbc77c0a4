"""How a run fits the memory: where its images stay, and how its batch is divided beside them."""

from dataclasses import dataclass
from typing import Any

from ssl_cli.config.tree import Settings
from ssl_cli.data.source import Source
from ssl_cli.engine.plan import budget, need
from ssl_cli.engine.plan.divide import Division
from ssl_cli.engine.plan.probe import Arithmetic
from ssl_cli.engine.plan.residence import Residence, housed
from ssl_cli.objective import Objective

SLACK = 1.05
"""What is planned may come out as so much more: graphs and images are kept in what that leaves of the budget."""


@dataclass(frozen=True)
class Fit:
    """A division of the batch that fits the memory.

    Attributes:
        need: what it was judged by.
        division: which one.
        stay: where images stay.
        most: bytes that the run may take.
        why: that is what it may.
        beside: bytes of them beside activations.
    """

    need: need.Need
    division: Division
    stay: Residence
    most: int
    why: str
    beside: int

    @property
    def resolved(self) -> dict[str, Any]:
        """Of the choices that a resumed run takes over, those that are made here."""
        made = {name: getattr(self.division, name) for name in ("mode", "micro_batch", "checkpointing")}
        return {**made, "kept_graphs": self.division.kept, "gpu_cache_bytes": self.stay.card_bytes}


def fit(settings: Settings, objective: Objective, how: Arithmetic, images: int, few: Source | None) -> Fit:
    """The cheapest division of the batch that fits, of a run over so many `images`, a `few` of which are at hand.

    Raises:
        ResourceError: not even the smallest micro-batch fits the memory.
        UsageError: a micro-batch that would cut BatchNorm groups.
    """
    found = need.measure(settings, objective, how, few)
    most, why = budget.budget(settings, found.device)
    stay, division = housed(settings, found, images, int(most / SLACK))
    if division is None:
        stay, division = housed(settings, found, images, most)
    beside = found.beside(settings) + stay.held
    if division is None:
        raise need.too_little(settings, found, beside, most)
    return Fit(found, division, stay, most, why, beside)
