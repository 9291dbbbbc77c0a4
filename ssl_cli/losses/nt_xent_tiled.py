"""NT-Xent in O(M*D) memory with its own backward; equal to the dense reference in value and gradient.

The similarity matrix is symmetric, so one tile of it serves as rows and, transposed, as columns: only tiles on and
right of the diagonal are formed, once forward and once backward. Similarities of unit rows are at most 1, so
`exp((s - 1) / temperature)` never overflows and its sums need no running maximum; only at temperatures that no paper
uses could they vanish, and there sums are kept as logarithms.

Where processes share a batch each finds the log-sum-exps of its own rows, gathers those of the others, and then has the
whole gradient of its own rows: rows against all, twice the products of the sweep, and no gradient travels.

A memory of further negatives is constant, so its share of the gradient is formed forward, while its softmax is at
hand, and backward has nothing left to do for it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ssl_cli.losses.nt_xent import nt_xent

TILE = 512
# Tiles of extra rows that are met at once: 16 MB in float32, and few enough turns.
ABREAST = 16
# Below this, exp(-2 / temperature) leaves float32 and a row's sum could vanish.
LOWEST_TEMPERATURE = 0.025


def nt_xent_tiled(
    z: Tensor,
    temperature: float,
    tile: int = TILE,
    extra: Tensor | None = None,
    products: torch.dtype | None = None,
) -> Tensor:
    """`nt_xent(z, temperature, extra)` without the matrix; `tile` rows and columns at a time, of `extra` 16 tiles.

    With `products` bfloat16 the sweep's matrix products are of rows and weights rounded to it, sums stay as they are:
    faster, at a relative error of the gradient of about a thousandth (`python -m tests.bench.nt_xent`).
    """
    if max(len(z), 0 if extra is None else len(extra)) <= tile:
        return nt_xent(z, temperature, extra)
    loss: Tensor = _TiledNTXent.apply(z, temperature, tile, extra, products)
    return loss


def row_log_sum_exp(z: Tensor, temperature: float, tile: int = TILE, products: torch.dtype | None = None) -> Tensor:
    """Log sum over j != i of exp(z_i.z_j / temperature), `(M,)`."""
    rounded = z if products is None else z.to(products)
    if temperature < LOWEST_TEMPERATURE:
        logs = torch.full_like(z[:, 0], -torch.inf)
        for rows, columns, logits in _tiles(rounded, temperature, tile):
            logs[rows] = torch.logaddexp(logs[rows], logits.logsumexp(1))
            if rows != columns:
                logs[columns] = torch.logaddexp(logs[columns], logits.logsumexp(0))
        return logs + 1 / temperature
    sums = z.new_zeros(len(z))
    for rows, columns, logits in _tiles(rounded, temperature, tile):
        e = logits.exp_()
        sums[rows] += e.sum(1)
        if rows != columns:
            sums[columns] += e.sum(0)
    return sums.log() + 1 / temperature


def own_log_sum_exp(z: Tensor, own: Tensor, temperature: float, tile: int = TILE) -> Tensor:
    """The same of the rows `own` alone, int64 `(m,)`, against all rows; `(m,)`."""
    logs = [logits.logsumexp(1) for _, logits in _own_tiles(z, own, temperature, tile)]
    return torch.cat(logs) + 1 / temperature


def nt_xent_from(
    z: Tensor, log_sum_exp: Tensor, temperature: float, own: Tensor, pull: Tensor | None = None, tile: int = TILE
) -> Tensor:
    """NT-Xent of all rows z `(M,D)` from their log-sum-exps `(M,)`, with the gradient of the rows `own` alone.

    `pull` `(m,D)` is that part of their gradient which `meet` found.
    """
    loss: Tensor = _NTXentFrom.apply(z, log_sum_exp, temperature, own, pull, tile)
    return loss


def own_gradient(z: Tensor, own: Tensor, log_sum_exp: Tensor, temperature: float, tile: int = TILE) -> Tensor:
    """D loss / d z of the rows `own` `(m,D)`, given the log-sum-exps `(M,)` of all."""
    log_share = 1 / temperature - log_sum_exp
    grad = -2 * z[(own + len(z) // 2) % len(z)]
    for block, logits in _own_tiles(z, own, temperature, tile):
        weight = (logits + log_share[own[block], None]).exp_().add_(logits.add_(log_share[None]).exp_())
        grad[block].addmm_(weight, z)
    return grad.div_(temperature * len(z))


def gradient(
    z: Tensor, log_sum_exp: Tensor, temperature: float, tile: int = TILE, products: torch.dtype | None = None
) -> Tensor:
    """D loss / d z `(M,D)` as far as the rows themselves are each other's candidates, given their log-sum-exps."""
    log_share = 1 / temperature - log_sum_exp  # of shifted exponentials in their row's softmax
    share = log_share.exp()
    grad = -2 * z.roll(len(z) // 2, 0)  # each row is the positive of one row and has one positive
    rounded = z if products is None else z.to(products)
    for rows, columns, logits in _tiles(rounded, temperature, tile):
        # i among j's candidates, and j among i's
        if temperature < LOWEST_TEMPERATURE:
            weight = (logits + log_share[rows, None]).exp_().add_(logits.add_(log_share[None, columns]).exp_())
        else:
            weight = logits.exp_().mul_(share[rows, None] + share[None, columns])
        if products is None:
            grad[rows].addmm_(weight, z[columns])
            if rows != columns:
                grad[columns].addmm_(weight.T, z[rows])
        else:
            weight = weight.to(products)
            grad[rows] += weight @ rounded[columns]
            if rows != columns:
                grad[columns] += weight.T @ rounded[rows]
    return grad.div_(temperature * len(z))


def meet(
    z: Tensor, extra: Tensor, log_sum_exp: Tensor, temperature: float, tile: int = TILE, of: int | None = None
) -> tuple[Tensor, Tensor]:
    """Add the candidates `extra` `(K,D)` to every row's softmax; z `(M,D)` may be some rows `of` so many.

    Returns:
        The log-sum-exps `(M,)` with them, and D loss / d z `(M,D)` as far as it comes from them.
    """
    totals, pulls = torch.empty_like(log_sum_exp), torch.empty_like(z)
    for start in range(0, len(z), tile):
        block = slice(start, start + tile)
        total, pull = log_sum_exp[block], torch.zeros_like(z[block])
        for rows in torch.split(extra, ABREAST * tile):
            logits = (z[block] @ rows.T).div_(temperature)
            before, total = total, torch.logaddexp(total, logits.logsumexp(1))
            pull.mul_((before - total).exp_()[:, None]).addmm_(logits.sub_(total[:, None]).exp_(), rows)
        totals[block], pulls[block] = total, pull
    return totals, pulls.div_(temperature * (of or len(z)))


def _tiles(z: Tensor, temperature: float, tile: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tiles (s - 1) / temperature on and right of the diagonal, -inf where a row meets itself."""
    spans = [slice(start, min(start + tile, len(z))) for start in range(0, len(z), tile)]
    wide = torch.promote_types(z.dtype, torch.float32)
    for i, rows in enumerate(spans):
        for columns in spans[i:]:
            logits = (z[rows] @ z[columns].T).to(wide).sub_(1).div_(temperature)
            if rows == columns:
                logits.fill_diagonal_(-torch.inf)
            yield rows, columns, logits


def _own_tiles(z: Tensor, own: Tensor, temperature: float, tile: int) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of the rows `own` against all, (s - 1) / temperature, -inf where a row meets itself."""
    at_once = max(1, ABREAST * tile**2 // len(z))
    for start in range(0, len(own), at_once):
        block = slice(start, start + at_once)
        logits = (z[own[block]] @ z.T).sub_(1).div_(temperature)
        yield block, logits.scatter_(1, own[block, None], -torch.inf)


class _NTXentFrom(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, log_sum_exp: Tensor, temperature: float, own: Tensor, pull: Tensor | None, tile: int
    ) -> Tensor:
        ctx.save_for_backward(z, log_sum_exp, own, pull)
        ctx.temperature, ctx.tile = temperature, tile
        return (log_sum_exp - (z * z.roll(len(z) // 2, 0)).sum(1) / temperature).mean()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        z, log_sum_exp, own, pull = ctx.saved_tensors
        slope = own_gradient(z, own, log_sum_exp, ctx.temperature, ctx.tile)
        grad = torch.zeros_like(z).index_copy_(0, own, slope if pull is None else slope.add_(pull))
        return grad * outer[0], None, None, None, None, None


class _TiledNTXent(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, temperature: float, tile: int, extra: Tensor | None, products: torch.dtype | None
    ) -> Tensor:
        log_sum_exp, pull = row_log_sum_exp(z, temperature, tile, products), None
        if extra is not None:
            log_sum_exp, pull = meet(z, extra, log_sum_exp, temperature, tile)
        ctx.save_for_backward(z, log_sum_exp, pull)
        ctx.temperature, ctx.tile, ctx.products = temperature, tile, products
        positives = (z * z.roll(len(z) // 2, 0)).sum(1) / temperature
        return (log_sum_exp - positives).mean()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        z, log_sum_exp, pull = ctx.saved_tensors
        slope = gradient(z, log_sum_exp, ctx.temperature, ctx.tile, ctx.products)
        return (slope if pull is None else slope.add_(pull)) * outer[0], None, None, None, None
