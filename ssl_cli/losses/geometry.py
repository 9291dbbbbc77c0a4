"""Metrics of rows on the unit sphere, by which a collapse of the representation is seen."""

import math

import torch
from torch import Tensor

from ssl_cli.losses.info_nce import Groups

ROWS = 512
"""Rows that are measured, the first ones: batches are in random order, and more rows change little."""


def spread(z: Tensor) -> Tensor:
    """Compute sqrt(D) times the mean standard deviation of the coordinates of z `(M,D)`: 1 uniform, 0 collapsed."""
    return z.std(0).mean() * math.sqrt(z.shape[1])


def uniformity(z: Tensor, rows: int = ROWS) -> Tensor:
    """Compute log E exp(-2 |x - y|^2) over pairs of unit rows; lower is more even (Wang and Isola 2020, equation 6)."""
    z = z[:rows]
    pairs = (z @ z.T).sub_(1).mul_(4).fill_diagonal_(-torch.inf)  # -2 |x - y|^2 = -4 (1 - x.y)
    return pairs.flatten().logsumexp(0) - math.log(len(z) * (len(z) - 1))


def effective_rank(z: Tensor) -> Tensor:
    """Compute exp(entropy of the normalised singular values): the dimensions in use (RankMe, arXiv 2210.02885)."""
    z = z[:ROWS].double()
    gram = z.T @ z if z.shape[1] <= len(z) else z @ z.T
    values = torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt_()
    entropy: Tensor = torch.special.entr(values / values.sum()).sum()
    return entropy.exp()


def agreement(
    anchor: Tensor,
    positive: Tensor,
    candidates: Tensor,
    excluded: tuple[Tensor, ...] = (),
    groups: Groups | None = None,
) -> dict[str, Tensor]:
    """Measure how well anchors find their positives, on unit rows.

    Args:
        anchor: `(M,D)`.
        positive: `(M,D)`, the positive of each anchor.
        candidates: `(K,D)`, the negatives, and maybe rows of the anchors' images.
        excluded: int64 `(M,)` each, candidates that are no negatives of the anchor.
        groups: int64 `(M,)` and `(K,)`, of anchors and candidates; those of the anchor's group are no negatives.

    Returns:
        `top1`, the fraction of anchors nearer to their positive than to any negative, and `alignment`, the mean
        squared distance to the positive (Wang and Isola 2020, arXiv 2005.10242, equation 5).
    """
    anchor, positive = anchor[:ROWS], positive[:ROWS]
    similarity = (anchor * positive).sum(1)
    negatives = anchor @ candidates.T
    for rows in excluded:
        negatives.scatter_(1, rows[:ROWS, None], -torch.inf)
    if groups is not None:
        negatives.masked_fill_(groups[0][:ROWS, None] == groups[1], -torch.inf)
    return {
        "top1": (similarity > negatives.amax(1)).to(anchor.dtype).mean(),
        "alignment": (anchor - positive).square().sum(1).mean(),
    }
