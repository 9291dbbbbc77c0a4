"""Exact gradient of a loss that sees the whole batch, with the activations of only a part of it in memory."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ssl_cli.engine.rows import Shard
from ssl_cli.nn.batchnorm import Moments, grouped
from ssl_cli.nn.checkpointing import checkpointed
from ssl_cli.nn.precision import tf32

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class MicroBatched:
    """Run a row-wise function in micro-batches of whole BatchNorm groups.

    Attributes:
        net: module whose BatchNorm layers are grouped.
        call: row numbers `(m,)` to outputs `(m,...)`.
        shard: the BatchNorm groups, and which of them this rank runs.
        micro_batch: rows at a time.
        autocast: factory of the precision context of one forward pass.
        seed: of dropout; each micro-batch draws the same numbers whenever it is recomputed.
        checkpointing: activation checkpointing: blocks keep only their inputs and are recomputed in the backward pass.
    """

    net: nn.Module
    call: Callable[[Tensor], Tensor]
    shard: Shard
    micro_batch: int
    autocast: Callable[[], AbstractContextManager[None]]
    seed: int
    checkpointing: bool = False

    @cached_property
    def micro_batches(self) -> list[tuple[Tensor, tuple[int, ...]]]:
        """Return row numbers and group sizes of each micro-batch."""
        return list(self.shard.micro_batches(self.micro_batch))

    @property
    def sizes(self) -> list[int]:
        """Return the rows of each micro-batch."""
        return [len(rows) for rows, _ in self.micro_batches]

    def forward(self, number: int, moments: Moments | None) -> Tensor:
        """Return the outputs of micro-batch `number`, in group order; add its BatchNorm statistics to `moments`."""
        rows, sizes = self.micro_batches[number]
        across_ranks = self.shard.across_ranks
        recompute = checkpointed(self.net, sizes, across_ranks=across_ranks) if self.checkpointing else nullcontext()
        torch.manual_seed((self.seed + number) % 2**63)
        with grouped(self.net, sizes, moments, across_ranks=across_ranks), recompute, self.autocast():
            return self.call(rows)

    @torch.no_grad()
    def forward_first(self, count: int, moments: Moments | None) -> Tensor | None:
        """Return the outputs of the first `count` micro-batches in group order, without a graph; None if empty.

        Note:
            They are written to one tensor: one small tensor a micro-batch, allocated between the large activations,
            would fragment the memory.
        """
        out, start = None, 0
        for number, rows in enumerate(sizes := self.sizes[:count]):
            part: Tensor | None = self.forward(number, moments)  # an objective's targets may be None
            if part is None:
                return None
            if out is None:
                out = part.new_empty(sum(sizes), *part.shape[1:])
            out[start : start + rows] = part
            start += rows
        return out

    def forward_all(self, moments: Moments | None) -> Tensor | None:
        """Return the outputs of all rows of all ranks without a graph, in row order; None where there are none."""
        out = self.forward_first(len(self.micro_batches), moments)
        return None if out is None else self.shard.gather(out)


def compute_gradient(rows: MicroBatched, loss: Loss, moments: Moments, kept_graphs: int) -> tuple[Tensor, Tensor]:
    """Accumulate the exact gradient of `loss(z)` in the parameters, with the graphs of `kept_graphs` micro-batches.

    All rows are run forward, the last `kept_graphs` micro-batches with a graph. The loss of the whole batch gives
    d loss / d z, from which the kept graphs take the chain rule; the other micro-batches are recomputed with the same
    groups, precision and dropout. With all graphs kept this is the ordinary backward pass, with none it is gradient
    caching (Gao et al. 2021, arXiv 2101.06983).

    Args:
        rows: the local rows of this rank; z is gathered from all ranks, without gradient.
        loss: z `(M,D)` of all ranks to a scalar.
        moments: collects BatchNorm statistics, once for every row.
        kept_graphs: number of micro-batches whose graph stays in memory.

    Returns:
        The loss and z of all rows, detached.
    """
    count = len(rows.micro_batches)
    recomputed = max(count - kept_graphs, 0)
    without_graph = rows.forward_first(recomputed, None)
    with rows.autocast():  # around all of them, so that the graphs share one cast of each weight
        outs = [rows.forward(number, moments) for number in range(recomputed, count)]
    local = [*([] if without_graph is None else [without_graph]), *(out.detach() for out in outs)]
    z = rows.shard.gather(torch.cat(local)).requires_grad_()
    value = loss(z)
    value.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    gradients = torch.split(z.grad[rows.shard.local.order.to(z.device, non_blocking=True)], rows.sizes)
    with tf32(z.device):
        for number in range(count - 1, recomputed - 1, -1):
            outs.pop().backward(gradients[number])  # type: ignore[no-untyped-call]
        for number in range(recomputed):
            rows.forward(number, moments).backward(gradients[number])  # type: ignore[no-untyped-call]
    return value.detach(), z.detach()
