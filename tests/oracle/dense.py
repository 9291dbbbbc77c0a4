"""Losses with their whole matrix, in torch's plain operations and with its own gradient."""

import torch
from torch import Tensor


def invariant_spread(z: Tensor, temperature: float) -> Tensor:
    """InvaSpread as in the official code (BatchAverage.py): what a row is compared with is constant."""
    rows = torch.arange(len(z))
    p = (z @ z.detach().T / temperature).fill_diagonal_(-torch.inf).softmax(1)
    positive = (rows + len(z) // 2) % len(z)
    negatives = torch.ones_like(p, dtype=torch.bool).fill_diagonal_(False)
    negatives[rows, positive] = False
    return -(p[rows, positive].log().sum() + torch.log1p(-p[negatives]).sum()) / len(z)
