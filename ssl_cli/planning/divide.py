"""Divide a batch into micro-batches for a memory budget: arithmetic only, without torch.

Three ways to hold less than all activations of a batch, none of which changes the gradient:

* `cached`: gradient caching (Gao et al. 2021, arXiv 2101.06983): a forward pass without a graph, micro-batch by
  micro-batch, then each micro-batch is recomputed with one, once the loss is known;
* `tail-keep`: the same, but as many micro-batches as fit keep their graphs from the first forward pass;
* `checkpointed`: activation checkpointing. It saves memory within a BatchNorm group, which the others cannot split,
  and combines with either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ssl_cli.nn.group_sizes import pack

if TYPE_CHECKING:
    from ssl_cli.nn.activations import ActivationBytes

Mode = Literal["auto", "direct", "tail-keep", "cached", "checkpointed"]


@dataclass(frozen=True)
class MicroBatchPlan:
    """Micro-batches of a step.

    Attributes:
        micro_batch: rows of a micro-batch.
        count: micro-batches of a step.
        kept_graphs: how many of them, the last ones, keep their graph from the first forward pass.
        checkpointing: whether activations are checkpointed.
        peak: bytes of activations at most.
    """

    micro_batch: int
    count: int
    kept_graphs: int
    checkpointing: bool
    peak: int

    @property
    def mode(self) -> str:
        """Return the name of this plan's mode."""
        if self.checkpointing:
            return "checkpointed"
        return "direct" if self.kept_graphs == self.count else "tail-keep" if self.kept_graphs else "cached"

    @property
    def undivided(self) -> bool:
        """Return whether all rows are one micro-batch, and none is recomputed."""
        return self.mode == "direct" and self.count == 1

    @property
    def recomputed(self) -> float:
        """Return the additional forward passes of a row, on average."""
        return (self.count - self.kept_graphs) / self.count + self.checkpointing

    @property
    def reason(self) -> str:
        """Describe in words what is kept."""
        graphs, count = self.kept_graphs, self.count
        if graphs == count and not self.checkpointing:
            return "the whole batch fits; every activation is kept"
        parts = "activations are checkpointed" if self.checkpointing else ""
        some = f"{graphs} of {count} micro-batches keep their graph" if 0 < graphs < count else ""
        none = "no graph is kept, every row is recomputed" if not graphs else ""
        return "exact; " + ", ".join(filter(None, (parts, some, none)))


def saturating_rows(device: str) -> int:
    """Return the rows above which larger micro-batches are no faster; on a CPU they only leave its caches."""
    return 256 if device == "cpu" else 1024


def divide(
    sizes: Sequence[int], activations: Callable[[bool], ActivationBytes], available: int, *,
    mode: Mode = "auto", micro_batch: int | None = None, device: str = "cpu",
) -> MicroBatchPlan | None:  # fmt: skip
    """Choose the micro-batches with the fewest recomputed rows that fit.

    Args:
        sizes: rows of each BatchNorm group of a step.
        activations: memory estimate without checkpointing (False) and with it (True).
        available: bytes that activations may take.
        mode: the mode asked for.
        micro_batch: the rows asked for.
        device: type of the device.

    Returns:
        None where not even one BatchNorm group fits, or the mode asked for does not.
    """
    for checkpointing in {"auto": (False, True), "checkpointed": (True,)}.get(mode, (False,)):
        each = activations(checkpointing)
        rows, largest = sum(sizes), max(sizes)
        if micro_batch is not None:
            micro = min(micro_batch, rows)
        elif device != "cpu" and mode not in ("cached", "tail-keep") and each.at(rows) <= available:
            micro = rows
        else:
            fitting = _whole_groups(int((available - each.fixed) // each.peak), largest)
            micro = min(_whole_groups(saturating_rows(device), largest) or largest, fitting, rows)
        if micro < largest or each.at(micro) > available:
            continue
        count = sum(1 for _ in pack(sizes, micro))
        graphs = min(1 + int((available - each.at(micro)) // (each.saved * micro)), count)
        if mode == "direct" and graphs < count:
            continue
        if mode == "tail-keep":
            graphs = min(graphs, max(count - 1, 1))
        elif mode == "cached":
            graphs = 0
        return MicroBatchPlan(micro, count, graphs, checkpointing, each.at(micro, max(graphs - 1, 0) * micro))
    return None


def divide_further(
    sizes: Sequence[int], micro_batch: int, kept_graphs: int, checkpointing: bool
) -> tuple[int, int, bool] | None:
    """Return micro-batch, kept graphs and checkpointing that need less memory than these; None where nothing does.

    First no graph is kept and micro-batches are halved, in whole groups; then activations are checkpointed.
    """
    half = max(_whole_groups(micro_batch // 2, max(sizes)), min(max(sizes), micro_batch))
    if kept_graphs or half < micro_batch:
        return half, 0, checkpointing
    return None if checkpointing else (micro_batch, 0, True)


def _whole_groups(rows: int, largest: int) -> int:
    return max(rows, 0) // largest * largest
