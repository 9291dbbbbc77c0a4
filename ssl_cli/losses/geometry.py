"""How rows lie on the unit sphere: what tells a representation that learns from one that collapses."""

import math

import torch
from torch import Tensor

ROWS = 512
"""Rows that are looked at, the first ones: a batch comes in random order, and more would say no more."""


def spread(z: Tensor) -> Tensor:
    """Mean standard deviation of a coordinate of z `(M,D)` times sqrt(D): 1 on the whole sphere, 0 if it collapsed."""
    return z.std(0).mean() * math.sqrt(z.shape[1])


def uniformity(z: Tensor) -> Tensor:
    """The log of E exp(-2 |x - y|^2) over pairs of unit rows; lower is more even (Wang and Isola 2020, equation 6)."""
    z = z[:ROWS]
    pairs = (z @ z.T).sub_(1).mul_(4).fill_diagonal_(-torch.inf)  # -2 |x - y|^2 = -4 (1 - x.y)
    return pairs.flatten().logsumexp(0) - math.log(len(z) * (len(z) - 1))


def effective_rank(z: Tensor) -> Tensor:
    """The exponential of the entropy of the singular values' shares: dimensions in use (RankMe, 2210.02885)."""
    z = z[:ROWS].double()
    gram = z.T @ z if z.shape[1] <= len(z) else z @ z.T
    values = torch.linalg.eigvalsh(gram).clamp_(min=0).sqrt_()
    share = values / values.sum()
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy.exp()


def agreement(anchor: Tensor, positive: Tensor, candidates: Tensor, own: tuple[Tensor, ...] = ()) -> dict[str, Tensor]:
    """How well anchors find their positives, on unit rows.

    Args:
        anchor: `(M,D)`.
        positive: `(M,D)`, each anchor's own.
        candidates: `(K,D)`, from which it is to be told apart.
        own: int64 `(M,)` each, the candidates that are the anchor's own rows and no negatives.

    Returns:
        `top1`, the share of anchors nearer to their positive than to any negative, and `alignment`, the mean
        squared distance to the positive (Wang and Isola 2020, arXiv 2005.10242, equation 5).
    """
    anchor, positive = anchor[:ROWS], positive[:ROWS]
    similarity = (anchor * positive).sum(1)
    rivals = anchor @ candidates.T
    for rows in own:
        rivals.scatter_(1, rows[:ROWS, None], -torch.inf)
    return {
        "top1": (similarity > rivals.amax(1)).to(anchor.dtype).mean(),
        "alignment": (anchor - positive).square().sum(1).mean(),
    }
