"""Noise-contrastive estimation over a memory bank, the loss of InstDisc (Wu et al. 2018, arXiv 1805.01978).

Each image is a class, and its row of the bank is the weight of that class. An embedding is classified K + 1 times, as
data or noise: against its image's row, and against K rows drawn uniformly from the bank with replacement, the image's
row not excluded.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

TILE = 2**22
"""Numbers gathered from the bank at once: 16 MB in float32."""
EPS = 1e-7
"""What the official code (NCECriterion.py) adds to denominators. With logarithms nothing needs it but equal values."""


def nce(
    z: Tensor,
    bank: Tensor,
    index: Tensor,
    noise: Tensor,
    temperature: float,
    log_Z: Tensor | None = None,
    tile: int = TILE,
    left_out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the mean over rows of -log h(i, v) - sum over the noise of log(1 - h(j, v)): equations 4, 6 and 7.

    h = P / (P + K/n + eps) with P = exp(v_j.z / temperature) / Z, as in the official code; Z is the constant of
    equation 8 and has no gradient. Memory O(N*K + tile): the gathered rows `(N,K+1,D)` are never stored at once.

    Args:
        z: unit embeddings `(N,D)`; the only input that gets a gradient.
        bank: unit rows `(n,D)`, one per image of the data set, as they were before this step.
        index: int64 `(N,)`, the row of each embedding's image.
        noise: int64 `(N,K)`, its noise rows.
        temperature: divides every similarity.
        log_Z: log of the normalising constant, a scalar; None or NaN: it is estimated from this batch.
        tile: numbers gathered at a time.
        left_out: bool `(N,K)`, noise that an embedding is not classified against; it counts for Z all the same. None:
            none.

    Returns:
        The loss, `log(K + 1) + K log(1 + 1/K)` where all similarities are equal; and the log Z that was used. That of
        the first step, before the bank is blended, holds for all later ones.
    """
    scores: Tensor = _GatheredScores.apply(z, bank, torch.cat([index[:, None], noise], 1), tile) / temperature
    estimate = _estimate(scores.detach(), len(bank))
    log_Z = estimate if log_Z is None else torch.where(log_Z.isnan(), estimate, log_Z)
    draws = noise.shape[1]
    expected = draws / len(bank)  # K times the chance of a row under the noise
    log_odds = scores - log_Z - math.log(expected + EPS)
    data, other = F.logsigmoid(log_odds[:, 0]), F.logsigmoid(-log_odds[:, 1:])
    # for the noise the code has K/n / (P + K/n + eps), a little less than 1 - h
    count: float | Tensor = draws
    if left_out is not None:
        other, count = other.masked_fill(left_out, 0), draws - left_out.sum() / len(z)
    return count * math.log1p(EPS / expected) - (data.sum() + other.sum()) / len(z), log_Z


def proximal(z: Tensor, previous: Tensor) -> Tensor:
    """Compute the mean over rows of |z - previous|^2, both `(N,D)`: the last term of equation 10 without lambda."""
    return (z - previous.detach()).square().sum(1).mean()


def _estimate(scores: Tensor, rows: int) -> Tensor:
    """Compute log(rows * mean exp(scores)), equation 8; as in the code over all scores, also of images' rows."""
    return scores.flatten().logsumexp(0) + math.log(rows / scores.numel())


class _GatheredScores(torch.autograd.Function):
    """Compute z_b . bank[rows_bk], `(N,K)`, of z `(N,D)`, bank `(n,D)` and rows `(N,K)`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, bank: Tensor, rows: Tensor, tile: int) -> Tensor:
        ctx.save_for_backward(bank, rows)
        (images, count), dim = rows.shape, z.shape[1]
        scores = z.new_empty(images, count)
        at_once = min(images, max(1, tile // (count * dim)))
        gathered = bank.new_empty(
            at_once * count, dim
        )  # one buffer: new memory for each block costs more than the gather
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
