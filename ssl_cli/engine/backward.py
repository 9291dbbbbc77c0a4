"""The gradient of a loss that sees the whole batch, with all activations in memory or those of a micro-batch."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_cli.engine.groups import Groups
from ssl_cli.nn.batchnorm import Moments, grouped

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rowwise:
    """Passes the rows of a step through a network, micro-batch by micro-batch of whole BatchNorm groups.

    Attributes:
        net: whose BatchNorm layers are grouped.
        call: row numbers `(m,)` to the rows' outputs `(m,...)`.
        groups: which rows share statistics.
        micro_batch: rows at a time.
        autocast: makes the precision context of one pass.
        seed: of dropout; each micro-batch draws the same numbers whenever it passes.
    """

    net: nn.Module
    call: Callable[[Tensor], Tensor]
    groups: Groups
    micro_batch: int
    autocast: Callable[[], AbstractContextManager[None]]
    seed: int

    def passes(self, moments: Moments | None) -> Iterator[Tensor]:
        """Outputs of one micro-batch after another, in group order; BatchNorm statistics go to `moments`."""
        for i, (rows, sizes) in enumerate(self.groups.micro_batches(self.micro_batch)):
            torch.manual_seed((self.seed + i) % 2**63)
            with grouped(self.net, sizes, moments), self.autocast():
                out = self.call(rows)
            yield out

    def without_gradient(self, moments: Moments | None) -> Tensor:
        """All outputs in the rows' own order, outside any graph."""
        with torch.no_grad():
            return self.groups.restore(torch.cat(list(self.passes(moments))))


def plain_backward(rows: Rowwise, loss: Loss, moments: Moments) -> tuple[Tensor, Tensor]:
    """Gradient of `loss(z)` with every activation of the batch in memory.

    Returns:
        The loss and z `(M,D)`, detached; gradients are accumulated in the parameters, moments collected once.
    """
    z = rows.groups.restore(torch.cat(list(rows.passes(moments))))
    value = loss(z)
    value.backward()  # type: ignore[no-untyped-call]
    return value.detach(), z.detach()


def cached_backward(rows: Rowwise, loss: Loss, moments: Moments) -> tuple[Tensor, Tensor]:
    """The same gradient with the activations of one micro-batch in memory (Gao et al. 2021, arXiv 2101.06983).

    First all rows pass without a graph; the loss of the whole batch gives d loss / d z; then every micro-batch passes
    again, with the same groups, precision and dropout, and takes the chain rule from there. Exact: equal to
    `plain_backward` with the same BatchNorm groups.

    Returns:
        The loss and z `(M,D)`, detached; gradients are accumulated in the parameters, moments collected once.
    """
    z = rows.without_gradient(None).requires_grad_()
    value = loss(z)
    value.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    slopes = z.grad[rows.groups.order]
    start = 0
    for out in rows.passes(moments):
        out.backward(slopes[start : start + len(out)])  # type: ignore[no-untyped-call]
        start += len(out)
    return value.detach(), z.detach()


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[None]]:
    """A maker of contexts in which matrix work runs in `precision`; float32 and float64 are left alone.

    A new context for every pass: autocast remembers the casts of weights, and those made without a graph would cut
    the gradient off in the next pass.
    """

    @contextmanager
    def context() -> Iterator[None]:
        if precision == "bf16":
            with torch.autocast(device.type, torch.bfloat16):
                yield
        else:
            yield

    return context
