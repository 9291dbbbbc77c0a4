"""The loss of InvaSpread (Ye et al. 2019, arXiv 1904.03436): a softmax within the batch that attracts and repels.

As in the official code (BatchAverage.py), from which the paper differs: there a row meets all 2N - 1 others, in one
softmax for both terms, and what it meets is a constant, so gradient flows to the row alone. In the paper the positive
term's softmax is over the N originals, the negative term's counts the row itself, and nothing is said of constants.
"""

from typing import Any

import torch
from torch import Tensor

# Similarities formed at once: 8 MB in float32, a few times over.
TILE = 2**21


def invariant_spread(z: Tensor, temperature: float) -> Tensor:
    """Mean over all 2N rows i of -log P(i, its other view) - sum over other images' rows j of log(1 - P(i, j)).

    P(i, j) is the softmax over all rows but i of similarities / temperature: the dense reference.

    Args:
        z: unit rows `(2N,D)`, first views then second views; row i and row i + N are one image.
        temperature: divides every similarity.

    Returns:
        Scalar; `log(2N - 1) + (2N - 2) log((2N - 1) / (2N - 2))` where nothing is told apart. Memory O(N^2).
    """
    return _sum_over(z, torch.arange(len(z), device=z.device), z.detach(), temperature) / len(z)


def invariant_spread_tiled(z: Tensor, temperature: float, tile: int = TILE, own: Tensor | None = None) -> Tensor:
    """`invariant_spread(z, temperature)` in memory O(N*D + tile), `tile` similarities at a time.

    A row's gradient comes from its own softmax alone, so it is formed while the softmax is at hand. With `own`, int64
    `(m,)`, the mean is over these rows, each against all.
    """
    own = torch.arange(len(z), device=z.device) if own is None else own
    loss: Tensor = _Tiled.apply(z, temperature, max(1, tile // len(z)), own)
    return loss


def _sum_over(rows: Tensor, places: Tensor, constants: Tensor, temperature: float) -> Tensor:
    """Sum of the loss over `rows`, which stand at these `places` `(m,)` in the batch `constants` `(2N,D)`."""
    itself = places[:, None]
    positive = (itself + len(constants) // 2) % len(constants)
    log_p = (rows @ constants.T / temperature).scatter(1, itself, -torch.inf).log_softmax(1)
    # 1 - P rounds to zero where P is near one, and only the likeliest can be: there all others are summed instead
    likeliest = log_p.detach().argmax(1, keepdim=True)
    others = log_p.scatter(1, likeliest, torch.finfo(log_p.dtype).min).logsumexp(1, keepdim=True)
    log_rest = torch.log1p(-log_p.exp().scatter(1, likeliest, 0)).scatter(1, likeliest, others)
    return -log_p.gather(1, positive).sum() - log_rest.scatter(1, positive, 0).sum()


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, at_once: int, own: Tensor) -> Tensor:
        total, slope = z.new_zeros(()), torch.zeros_like(z)
        for places in torch.split(own, at_once):
            with torch.enable_grad():
                rows = z[places].detach().requires_grad_()
                part = _sum_over(rows, places, z.detach(), temperature)
            (slope[places],) = torch.autograd.grad(part, rows)
            total += part.detach()
        ctx.save_for_backward(slope.div_(len(own)))
        return total / len(own)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * outer[0], None, None, None
