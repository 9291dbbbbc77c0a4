"""Noise-contrastive estimation over a memory bank, the loss of InstDisc (Wu et al. 2018, arXiv 1805.01978).

Each image is a class of its own and its row of the bank is the class's weight. Which row is an embedding's own is
asked K + 1 times, yes or no: of the own row and of K noise rows, drawn uniformly from the bank with replacement, the
own row not excluded.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Numbers gathered from the bank at once: 16 MB in float32.
TILE = 2**22
# The official code (NCECriterion.py) keeps its divisions safe with this; logarithms need no such thing, the value does.
EPS = 1e-7


def nce(
    z: Tensor,
    bank: Tensor,
    index: Tensor,
    noise: Tensor,
    temperature: float,
    log_Z: Tensor | None = None,
    tile: int = TILE,
) -> tuple[Tensor, Tensor]:
    """Mean over rows of -log h(i, v) - sum over the noise of log(1 - h(j, v)): equations 4, 6 and 7, as in the code.

    h = P / (P + K/n + eps) with P = exp(v_j.z / temperature) / Z; Z is a constant, the one of equation 8, and has no
    gradient. Memory O(N*K + tile): the gathered rows `(N,K+1,D)` never exist at once, forward or backward.

    Args:
        z: unit embeddings `(N,D)`; the only input that gets a gradient.
        bank: unit rows `(n,D)`, one per image of the data set, as they were before this step.
        index: int64 `(N,)`, each embedding's own row.
        noise: int64 `(N,K)`, the rows it is told apart from.
        temperature: divides every similarity.
        log_Z: log of the normalising constant, a scalar; None or NaN: not known yet, it is estimated from this batch.
        tile: numbers gathered at a time.

    Returns:
        The loss, `log(K + 1) + K log(1 + 1/K)` where nothing is told apart; and the log Z it used: what the first
        step is to keep, before the bank is blended, for all later ones.
    """
    scores: Tensor = _GatheredScores.apply(z, bank, torch.cat([index[:, None], noise], 1), tile) / temperature
    estimate = _estimate(scores.detach(), len(bank))
    log_Z = estimate if log_Z is None else torch.where(log_Z.isnan(), estimate, log_Z)
    draws = noise.shape[1]
    expected = draws / len(bank)  # K times the chance of a row under the noise
    log_odds = scores - log_Z - math.log(expected + EPS)
    own, other = F.logsigmoid(log_odds[:, 0]), F.logsigmoid(-log_odds[:, 1:])
    # 1 - h is K/n / (P + K/n + eps) in the code, a little short of what h leaves
    return draws * math.log1p(EPS / expected) - (own.sum() + other.sum()) / len(z), log_Z


def proximal(z: Tensor, previous: Tensor) -> Tensor:
    """Mean over rows of |z - previous|^2, both `(N,D)`: the last term of equation 10, to be weighted by its lambda."""
    return (z - previous.detach()).square().sum(1).mean()


def _estimate(scores: Tensor, rows: int) -> Tensor:
    """Log of rows * mean exp(scores), equation 8; the code's mean is over the whole batch, own rows included."""
    return scores.flatten().logsumexp(0) + math.log(rows / scores.numel())


class _GatheredScores(torch.autograd.Function):
    """z_b . bank[rows_bk], `(N,K)` of z `(N,D)`, bank `(n,D)` and rows `(N,K)`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, bank: Tensor, rows: Tensor, tile: int) -> Tensor:
        ctx.save_for_backward(bank, rows)
        (images, count), dim = rows.shape, z.shape[1]
        scores = z.new_empty(images, count)
        at_once = min(images, max(1, tile // (count * dim)))
        gathered = bank.new_empty(at_once * count, dim)  # one buffer: fresh pages would cost more than the gather
        for start in range(0, images, at_once):
            block = slice(start, min(start + at_once, images))
            part = gathered[: rows[block].numel()]
            torch.index_select(bank, 0, rows[block].flatten(), out=part)
            torch.bmm(part.view(-1, count, dim), z[block, :, None], out=scores[block, :, None])
        return scores

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        bank, rows = ctx.saved_tensors
        weights = outer[0].contiguous()
        return F.embedding_bag(rows, bank, per_sample_weights=weights, mode="sum"), None, None, None
