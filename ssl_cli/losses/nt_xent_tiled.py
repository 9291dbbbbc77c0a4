"""NT-Xent in O(M*D) memory with its own backward; equal to the dense reference in value and gradient.

The similarity matrix is symmetric, so one tile of it serves as rows and, transposed, as columns: only tiles on and
right of the diagonal are formed, once forward and once backward. Similarities of unit rows are at most 1, so
`exp((s - 1) / temperature)` never overflows and its sums need no running maximum.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ssl_cli.losses.nt_xent import nt_xent

TILE = 512
# Below this, exp(-2 / temperature) leaves float32 and a row's sum could vanish.
LOWEST_TEMPERATURE = 0.025


def nt_xent_tiled(z: Tensor, temperature: float, tile: int = TILE) -> Tensor:
    """`nt_xent(z, temperature)` without the matrix; `tile` rows and columns at a time."""
    if temperature < LOWEST_TEMPERATURE or len(z) <= tile:
        return nt_xent(z, temperature)
    loss: Tensor = _TiledNTXent.apply(z, temperature, tile)
    return loss


def row_log_sum_exp(z: Tensor, temperature: float, tile: int = TILE) -> Tensor:
    """Log sum over j != i of exp(z_i.z_j / temperature), `(M,)`."""
    sums = z.new_zeros(len(z))
    for rows, columns, e in _tiles(z, temperature, tile):
        sums[rows] += e.sum(1)
        if rows != columns:
            sums[columns] += e.sum(0)
    return sums.log() + 1 / temperature


def gradient(z: Tensor, log_sum_exp: Tensor, temperature: float, tile: int = TILE) -> Tensor:
    """D loss / d z `(M,D)`, given each row's log-sum-exp."""
    share = torch.exp(1 / temperature - log_sum_exp)  # 1 / sums of shifted exponentials
    grad = -2 * z.roll(len(z) // 2, 0)  # each row is the positive of one row and has one positive
    for rows, columns, e in _tiles(z, temperature, tile):
        weight = e.mul_(share[rows, None] + share[None, columns])  # i among j's candidates, and j among i's
        grad[rows].addmm_(weight, z[columns])
        if rows != columns:
            grad[columns].addmm_(weight.T, z[rows])
    return grad.div_(temperature * len(z))


def _tiles(z: Tensor, temperature: float, tile: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles exp((s - 1) / temperature) on and right of the diagonal, zero where a row meets itself."""
    spans = [slice(start, min(start + tile, len(z))) for start in range(0, len(z), tile)]
    for i, rows in enumerate(spans):
        for columns in spans[i:]:
            e = (z[rows] @ z[columns].T).sub_(1).div_(temperature).exp_()
            if rows == columns:
                e.fill_diagonal_(0)
            yield rows, columns, e


class _TiledNTXent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, tile: int) -> Tensor:
        log_sum_exp = row_log_sum_exp(z, temperature, tile)
        ctx.save_for_backward(z, log_sum_exp)
        ctx.temperature, ctx.tile = temperature, tile
        positives = (z * z.roll(len(z) // 2, 0)).sum(1) / temperature
        return (log_sum_exp - positives).mean()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None]:
        z, log_sum_exp = ctx.saved_tensors
        return gradient(z, log_sum_exp, ctx.temperature, ctx.tile) * outer[0], None, None
