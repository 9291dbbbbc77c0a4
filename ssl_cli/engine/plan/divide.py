"""How a batch is divided: which rows pass at once, whose graphs are kept, what that holds and what it costs.

Three ways to need less memory than all activations of a batch, none of which changes the gradient:

* `cached`: all rows pass without a graph, micro-batch by micro-batch, and again with one once the loss is known;
* `tail-keep`: the same, but the graphs of as many micro-batches as fit stay from the first pass;
* `checkpointed`: the network keeps the inputs of its parts alone, which pass again. It works within a BatchNorm group,
  which the others cannot cut, and combines with either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ssl_cli.engine.plan.footprint import Footprint
from ssl_cli.engine.rows import pack

Mode = Literal["auto", "direct", "tail-keep", "cached", "checkpointed"]


def at_once(device: str) -> int:
    """Rows beyond which a pass gains nothing on this type of device: on a CPU they only leave its cache."""
    return 256 if device == "cpu" else 1024


@dataclass(frozen=True)
class Division:
    """What was decided.

    Attributes:
        micro_batch: rows at a time.
        count: how many times a step that is.
        kept: of so many, the last ones, the graphs are kept from the first pass.
        checkpointing: whether parts of the network keep their inputs alone.
        peak: bytes of activations at most.
    """

    micro_batch: int
    count: int
    kept: int
    checkpointing: bool
    peak: int

    @property
    def mode(self) -> str:
        """What it is called."""
        if self.checkpointing:
            return "checkpointed"
        return "direct" if self.kept == self.count else "tail-keep" if self.kept else "cached"

    @property
    def extra(self) -> float:
        """Forward passes of a row beside the one that it takes in any case, on average."""
        return (self.count - self.kept) / self.count + self.checkpointing

    @property
    def reason(self) -> str:
        """What is kept."""
        if self.kept == self.count and not self.checkpointing:
            return "the whole batch fits; every activation is kept"
        parts = "only what goes into the network's parts is kept" if self.checkpointing else ""
        some = f"the graphs of {self.kept} of {self.count} micro-batches are kept" if 0 < self.kept < self.count else ""
        none = "no graph is kept, rows pass twice" if not self.kept else ""
        return "exact; " + ", ".join(filter(None, (parts, some, none)))


def smaller(sizes: Sequence[int], micro_batch: int, kept: int, checkpointing: bool) -> tuple[int, int, bool] | None:
    """The same three with less memory, for a step that ran out of it; None: there is no smaller way.

    First no graph is kept and fewer rows pass at once, whole groups; then the network keeps its parts' inputs alone.
    """
    half = max(_whole(micro_batch // 2, max(sizes)), min(max(sizes), micro_batch))
    if kept or half < micro_batch:
        return half, 0, checkpointing
    return None if checkpointing else (micro_batch, 0, True)


def divide(
    sizes: Sequence[int],
    weigh: Callable[[bool], Footprint],
    room: int,
    *,
    mode: Mode = "auto",
    asked: int | None = None,
    device: str = "cpu",
) -> Division | None:
    """The cheapest division that fits, or that of the mode asked for; None: not even one BatchNorm group fits.

    Args:
        sizes: rows of each BatchNorm group of a step.
        weigh: what a row holds, without checkpointing (False) or with.
        room: bytes that activations may take.
        mode: what was asked for.
        asked: rows at a time, if given.
        device: its type.
    """
    ways = {"auto": (False, True), "checkpointed": (True,)}.get(mode, (False,))
    return next(filter(None, (_fitting(sizes, weigh(way), room, mode, asked, device, way) for way in ways)), None)


def _fitting(
    sizes: Sequence[int],
    weight: Footprint,
    room: int,
    mode: Mode,
    asked: int | None,
    device: str,
    checkpointing: bool,
) -> Division | None:
    rows, largest = sum(sizes), max(sizes)
    if asked is not None:
        micro = min(asked, rows)
    elif device != "cpu" and mode not in ("cached", "tail-keep") and weight.of(rows) <= room:
        micro = rows
    else:
        fitting = int((room - weight.fixed) // weight.peak)
        micro = min(_whole(at_once(device), largest) or largest, _whole(fitting, largest), rows)
    if micro < largest or weight.of(micro) > room:
        return None
    count = sum(1 for _ in pack(sizes, micro))
    kept = min(1 + int((room - weight.of(micro)) // (weight.kept * micro)), count)
    if mode == "direct" and kept < count:
        return None
    if mode == "tail-keep":
        kept = min(kept, max(count - 1, 1))
    elif mode == "cached":
        kept = 0
    return Division(micro, count, kept, checkpointing, weight.of(micro, max(kept - 1, 0) * micro))


def _whole(rows: int, largest: int) -> int:
    """As many of `rows` as whole groups make."""
    return max(rows, 0) // largest * largest
