"""The loss of InvaSpread (Ye et al. 2019, arXiv 1904.03436): a softmax within the batch, attracting and repelling.

As in the official code (BatchAverage.py), which differs from the paper: the softmax of a row is over all 2N - 1 other
rows, the same for both terms, and the other rows are constants, so that only the row itself has a gradient. In the
paper the positive term's softmax is over the N originals, the negative term's includes the row itself, and nothing is
said of constants.
"""

from typing import Any

import torch
from torch import Tensor

from ssl_cli.losses.nt_xent import leave_out_group

TILE = 2**21
"""Similarities that are computed at once: 8 MB in float32, for each of a few tensors."""


def invariant_spread(
    z: Tensor, temperature: float, tile: int = TILE, rows: Tensor | None = None, group: Tensor | None = None
) -> Tensor:
    """Compute the mean over rows i of -log P(i, its other view) - sum over other images' rows j of log(1 - P(i, j)).

    P(i, j) is the softmax over all rows but i of similarities / temperature. A row's gradient depends on its own
    softmax alone, so it is computed in the forward pass. Memory O(N*D + tile).

    Args:
        z: unit rows `(2N,D)`, first views then second views; rows i and i + N are one image.
        temperature: divides every similarity.
        tile: similarities at a time.
        rows: int64 `(m,)`, the rows that the mean is over, each against all; None: all.
        group: int64 `(2N,)`, the group of each row; other images of row i's group are in neither sum. None: no groups.

    Returns:
        Scalar; without groups `log(2N - 1) + (2N - 2) log((2N - 1) / (2N - 2))` where all similarities are equal.
    """
    rows = torch.arange(len(z), device=z.device) if rows is None else rows
    loss: Tensor = _InvariantSpread.apply(z, temperature, max(1, tile // len(z)), rows, group)
    return loss


def _sum_over(z: Tensor, index: Tensor, constants: Tensor, temperature: float, group: Tensor | None) -> Tensor:
    """Sum the loss over rows z `(m,D)`, which are rows `index` `(m,)` of the batch `constants` `(2N,D)`."""
    itself = index[:, None]
    positive = (itself + len(constants) // 2) % len(constants)
    logits = (z @ constants.T / temperature).scatter(1, itself, -torch.inf)
    log_p = (logits if group is None else leave_out_group(logits, group, index, slice(None))).log_softmax(1)
    # 1 - P rounds to zero where P is near one, as only the largest can be: its 1 - P is the sum of all others
    largest = log_p.detach().argmax(1, keepdim=True)
    others = log_p.scatter(1, largest, torch.finfo(log_p.dtype).min).logsumexp(1, keepdim=True)
    log_rest = torch.log1p(-log_p.exp().scatter(1, largest, 0)).scatter(1, largest, others)
    return -log_p.gather(1, positive).sum() - log_rest.scatter(1, positive, 0).sum()


class _InvariantSpread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, at_once: int, rows: Tensor, group: Tensor | None) -> Tensor:
        total, grad = z.new_zeros(()), torch.zeros_like(z)
        for index in torch.split(rows, at_once):
            with torch.enable_grad():
                block = z[index].detach().requires_grad_()
                part = _sum_over(block, index, z.detach(), temperature, group)
            (grad[index],) = torch.autograd.grad(part, block)
            total += part.detach()
        ctx.save_for_backward(grad.div_(len(rows)))
        return total / len(rows)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * outer[0], None, None, None, None
