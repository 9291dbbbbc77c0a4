"""NT-Xent in O(M*D) memory with its own backward pass; equal to the dense reference in value and gradient.

The similarity matrix is symmetric, so one tile of it serves as rows and, transposed, as columns: only tiles on and
right of the diagonal are computed, once in the forward and once in the backward pass. Similarities of unit rows are at
most 1, so `exp((s - 1) / temperature)` never overflows and its sums need no running maximum. At temperatures below
those of any paper the sums could underflow; there they are kept as logarithms.

Where several ranks share a batch, each computes the log-sum-exps of its local rows, gathers those of all rows, and
computes the whole gradient of its local rows from them: twice the products, and no gradient is communicated.

Further negatives (a memory) are constants: their part of the gradient is computed in the forward pass.

Where rows have groups, other images of a row's group are left out, in a tile as in the whole matrix.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ssl_cli.losses.nt_xent import leave_out_group, nt_xent

TILE = 512
"""Rows and columns of a tile."""
EXTRA_TILES = 16
"""Tiles of further negatives that are computed at once: 16 MB in float32."""
LOWEST_TEMPERATURE = 0.025
"""Below it exp(-2 / temperature) underflows in float32, and with it a row's sum could."""


def nt_xent_tiled(
    z: Tensor,
    temperature: float,
    tile: int = TILE,
    extra: Tensor | None = None,
    group: Tensor | None = None,
    extra_group: Tensor | None = None,
) -> Tensor:
    """Compute `nt_xent(z, temperature, extra, group, extra_group)` with `tile` x `tile` similarities at a time.

    Args:
        z: unit rows `(2N,D)`, first views then second views.
        temperature: divides every similarity.
        tile: rows and columns of a tile; of `extra` 16 tiles are computed at once.
        extra: unit rows `(K,D)`, constants: further negatives of every row.
        group: int64 `(2N,)`, the group of each row; None: no groups.
        extra_group: int64 `(K,)`, the group of each row of `extra`, where there are groups.

    Returns:
        Scalar.
    """
    if max(len(z), 0 if extra is None else len(extra)) <= tile:
        return nt_xent(z, temperature, extra, group, extra_group)
    loss: Tensor = _TiledNTXent.apply(z, temperature, tile, extra, group, extra_group)
    return loss


def log_sum_exp(z: Tensor, temperature: float, tile: int = TILE, group: Tensor | None = None) -> Tensor:
    """Compute log sum over j != i of exp(z_i.z_j / temperature) for all rows of z `(M,D)`; `(M,)`."""
    if temperature < LOWEST_TEMPERATURE:
        logs = torch.full_like(z[:, 0], -torch.inf)
        for rows, columns, logits in _tiles(z, temperature, tile, group):
            logs[rows] = torch.logaddexp(logs[rows], logits.logsumexp(1))
            if rows != columns:
                logs[columns] = torch.logaddexp(logs[columns], logits.logsumexp(0))
        return logs + 1 / temperature
    sums = z.new_zeros(len(z))
    for rows, columns, logits in _tiles(z, temperature, tile, group):
        e = logits.exp_()
        sums[rows] += e.sum(1)
        if rows != columns:
            sums[columns] += e.sum(0)
    return sums.log() + 1 / temperature


def local_log_sum_exp(
    z: Tensor, local: Tensor, temperature: float, tile: int = TILE, group: Tensor | None = None
) -> Tensor:
    """Compute the log-sum-exps `(m,)` of the rows `local`, int64 `(m,)`, over all rows of z `(M,D)` but themselves."""
    logs = [logits.logsumexp(1) for _, logits in _local_tiles(z, local, temperature, tile, group)]
    return torch.cat(logs) + 1 / temperature


def add_negatives(
    z: Tensor,
    extra: Tensor,
    logs: Tensor,
    temperature: float,
    tile: int = TILE,
    rows: int | None = None,
    group: Tensor | None = None,
    extra_group: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Add the negatives `extra` `(K,D)` to the softmax of every row of z `(M,D)`.

    Args:
        z: unit rows `(M,D)`, all rows of a loss or some of them.
        extra: unit rows `(K,D)`, constants.
        logs: log-sum-exps of z without them `(M,)`.
        temperature: divides every similarity.
        tile: rows at a time, and a sixteenth of the negatives at a time.
        rows: rows that the loss is the mean of; None: M.
        group: int64 `(M,)`, the group of each row of z, whose negatives of that group are left out; None: no groups.
        extra_group: int64 `(K,)`, the group of each negative, where there are groups.

    Returns:
        The log-sum-exps `(M,)` with them, and the part of d loss / d z `(M,D)` that is due to them.
    """
    totals, gradients, size = torch.empty_like(logs), torch.empty_like(z), EXTRA_TILES * tile
    for start in range(0, len(z), tile):
        block = slice(start, start + tile)
        total, grad = logs[block], torch.zeros_like(z[block])
        for first, negatives in zip(range(0, len(extra), size), torch.split(extra, size), strict=False):
            logits = (z[block] @ negatives.T).div_(temperature)
            if group is not None and extra_group is not None:
                logits.masked_fill_(group[block, None] == extra_group[first : first + size], -torch.inf)
            before, total = total, torch.logaddexp(total, logits.logsumexp(1))
            grad.mul_((before - total).exp_()[:, None]).addmm_(logits.sub_(total[:, None]).exp_(), negatives)
        totals[block], gradients[block] = total, grad
    return totals, gradients.div_(temperature * (rows or len(z)))


def nt_xent_local(
    z: Tensor,
    logs: Tensor,
    temperature: float,
    local: Tensor,
    extra_grad: Tensor | None = None,
    tile: int = TILE,
    group: Tensor | None = None,
) -> Tensor:
    """Compute NT-Xent of all rows from their log-sum-exps, with the gradient of the rows `local` alone.

    Args:
        z: unit rows `(M,D)` of all ranks.
        logs: their log-sum-exps `(M,)`.
        temperature: divides every similarity.
        local: int64 `(m,)`, the rows whose gradient is computed; that of the others is 0.
        extra_grad: the part of their gradient `(m,D)` that `add_negatives` returned.
        tile: see `nt_xent_tiled`.
        group: int64 `(M,)`, the group of each row; None: no groups.

    Returns:
        Scalar, the mean over all M rows.
    """
    loss: Tensor = _LocalNTXent.apply(z, logs, temperature, local, extra_grad, tile, group)
    return loss


def local_gradient(
    z: Tensor, local: Tensor, logs: Tensor, temperature: float, tile: int = TILE, group: Tensor | None = None
) -> Tensor:
    """Compute d loss / d z of the rows `local` `(m,D)`, given the log-sum-exps of all rows `(M,)`."""
    shift = 1 / temperature - logs
    grad = -2 * z[(local + len(z) // 2) % len(z)]
    for block, logits in _local_tiles(z, local, temperature, tile, group):
        weight = (logits + shift[local[block], None]).exp_().add_(logits.add_(shift[None]).exp_())
        grad[block].addmm_(weight, z)
    return grad.div_(temperature * len(z))


def gradient(z: Tensor, logs: Tensor, temperature: float, tile: int = TILE, group: Tensor | None = None) -> Tensor:
    """Compute d loss / d z `(M,D)` from the log-sum-exps `(M,)`, without the part of further negatives."""
    shift = 1 / temperature - logs
    scale = shift.exp()  # of the shifted exponentials, to probabilities
    grad = -2 * z.roll(len(z) // 2, 0)  # each row is the positive of one row and has one positive
    for rows, columns, logits in _tiles(z, temperature, tile, group):
        # the probability of j for row i, and of i for row j
        if temperature < LOWEST_TEMPERATURE:
            weight = (logits + shift[rows, None]).exp_().add_(logits.add_(shift[None, columns]).exp_())
        else:
            weight = logits.exp_().mul_(scale[rows, None] + scale[None, columns])
        grad[rows].addmm_(weight, z[columns])
        if rows != columns:
            grad[columns].addmm_(weight.T, z[rows])
    return grad.div_(temperature * len(z))


def _tiles(z: Tensor, temperature: float, tile: int, group: Tensor | None) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield tiles (s - 1) / temperature on and right of the diagonal; -inf on it, and for others of a row's group."""
    blocks = [slice(start, min(start + tile, len(z))) for start in range(0, len(z), tile)]
    for i, rows in enumerate(blocks):
        for columns in blocks[i:]:
            logits = (z[rows] @ z[columns].T).sub_(1).div_(temperature)
            if rows == columns:
                logits.fill_diagonal_(-torch.inf)
            if group is not None:
                leave_out_group(logits, group, rows, columns)
            yield rows, columns, logits


def _local_tiles(
    z: Tensor, local: Tensor, temperature: float, tile: int, group: Tensor | None
) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of the rows `local` against all, as `_tiles`; -inf where both are the same row, and so on."""
    at_once = max(1, EXTRA_TILES * tile**2 // len(z))
    for start in range(0, len(local), at_once):
        block = slice(start, start + at_once)
        logits = (z[local[block]] @ z.T).sub_(1).div_(temperature)
        logits.scatter_(1, local[block, None], -torch.inf)
        if group is not None:
            leave_out_group(logits, group, local[block], slice(None))
        yield block, logits


class _LocalNTXent(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, logs: Tensor, temperature: float, local: Tensor, extra_grad: Tensor | None, tile: int,
        group: Tensor | None,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(z, logs, local, extra_grad, group)
        ctx.temperature, ctx.tile = temperature, tile
        return (logs - (z * z.roll(len(z) // 2, 0)).sum(1) / temperature).mean()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        z, logs, local, extra_grad, group = ctx.saved_tensors
        rows = local_gradient(z, local, logs, ctx.temperature, ctx.tile, group)
        grad = torch.zeros_like(z).index_copy_(0, local, rows if extra_grad is None else rows.add_(extra_grad))
        return grad * outer[0], None, None, None, None, None, None


class _TiledNTXent(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, temperature: float, tile: int, extra: Tensor | None, group: Tensor | None,
        extra_group: Tensor | None,
    ) -> Tensor:  # fmt: skip
        logs, extra_grad = log_sum_exp(z, temperature, tile, group), None
        if extra is not None:
            logs, extra_grad = add_negatives(z, extra, logs, temperature, tile, None, group, extra_group)
        ctx.save_for_backward(z, logs, extra_grad, group)
        ctx.temperature, ctx.tile = temperature, tile
        positives = (z * z.roll(len(z) // 2, 0)).sum(1) / temperature
        return (logs - positives).mean()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        z, logs, extra_grad, group = ctx.saved_tensors
        grad = gradient(z, logs, ctx.temperature, ctx.tile, group)
        return (grad if extra_grad is None else grad.add_(extra_grad)) * outer[0], None, None, None, None, None
