"""Where decoded images stay from epoch to epoch: on the card, in memory, or on the disk, to be decoded anew."""

from dataclasses import dataclass
from typing import Literal

from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_bytes
from ssl_cli.engine.plan import budget
from ssl_cli.engine.plan.divide import Division
from ssl_cli.engine.plan.need import Need

CARD_SHARE = 8
"""Of a card's budget images may take one part in so many."""


@dataclass(frozen=True)
class Residence:
    """Of the images of a run.

    Attributes:
        place: where they stay.
        reason: why, in bytes.
        held: bytes that they take of the run's budget, which is the card's where there is one.
        beyond: bytes of the same memory beside the budget, since they were asked for.
    """

    place: Literal["on the card", "in memory", "on the disk"]
    reason: str
    held: int
    beyond: int = 0

    @property
    def card_bytes(self) -> int:
        """Bytes that they take of a card."""
        return self.held if self.place == "on the card" else 0

    @property
    def decoded_once(self) -> bool:
        """Whether no image is decoded a second time."""
        return self.place != "on the disk"


def housed(settings: Settings, found: Need, images: int, most: int) -> tuple[Residence, Division | None]:
    """Where `images` stay and how the batch is divided beside them, in a budget of `most` bytes.

    They stay on a card where all are of one size and fit an eighth of its budget, and no row has to pass again for it.
    """
    room, whole = most - found.beside(settings), int(images * found.sample.size)
    if found.device.type != "cuda" or settings.data.cache != "auto":
        host = _beside(settings, found, whole)
        return host, found.divide(settings, room - host.held)
    without = found.divide(settings, room)
    if len({image.shape for image in found.sample.images}) > 1:
        return _beside(settings, found, whole, "their sizes differ"), without
    if whole > most // CARD_SHARE:
        why = f"an eighth of the card's budget is {format_bytes(most // CARD_SHARE)}"
        return _beside(settings, found, whole, why), without
    within = found.divide(settings, room - whole)
    if without is None or within is None or within.extra > without.extra:
        return _beside(settings, found, whole, "on the card they would leave too little for the batch"), without
    return Residence("on the card", f"{format_bytes(whole)} decoded, within an eighth of its budget", whole), within


def _beside(settings: Settings, found: Need, whole: int, why: str = "") -> Residence:
    """In the memory of the machine as far as they are let, the others on the disk; `why` not on a card."""
    on_card, policy = found.device.type == "cuda", settings.data.cache
    room = 0 if policy == "none" else budget.cache_bytes(settings, found.objective, found.device)
    held, size = min(whole, room), format_bytes(whole)
    counted = 0 if on_card else held
    reasons = ["given"] if policy != "auto" else []
    if policy == "ram" or whole <= room:
        reasons += [f"{size} decoded", why]
        beyond = 0 if on_card else whole - held
        return Residence("in memory", "; ".join(filter(None, reasons)), counted, beyond)
    reasons += [f"{size} decoded, {format_bytes(held)} of it in memory" if held else f"{size} decoded every epoch", why]
    return Residence("on the disk", "; ".join(filter(None, reasons)), counted)
