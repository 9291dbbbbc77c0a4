"""Rows of images without any network: what an encoder has to beat, and what matches two views without learning."""

import torch
import torch.nn.functional as F
from torch import Tensor

PIXEL_SIDE, LOW_SIDE, BINS = 32, 8, 8
RIDGE = 0.03
"""Penalty of the two-sample classifier, in mean eigenvalues of the rows' Gram matrix."""


def pixels(x: Tensor) -> Tensor:
    """Flatten images to rows `(M, C * side * side)`, averaged down to at most 32 pixels a side: a baseline."""
    if x.shape[-1] > PIXEL_SIDE:
        x = F.adaptive_avg_pool2d(x, PIXEL_SIDE)
    return x.flatten(1)


def colours(x: Tensor) -> Tensor:
    """Compute histograms of each channel of images `(N,C,S,S)` in [0, 1], as rows `(N, C * 8)` of zero mean."""
    bins = (x * BINS).long().clamp(0, BINS - 1).flatten(2)
    counts = torch.zeros(*bins.shape[:2], BINS, device=x.device).scatter_add_(2, bins, torch.ones_like(bins).float())
    return _centred((counts / bins.shape[2]).sqrt().flatten(1))


def low_resolution(x: Tensor) -> Tensor:
    """Compute images `(N,C,S,S)` averaged down to 8 pixels a side, as rows `(N, C * 64)` of zero mean."""
    return _centred(F.adaptive_avg_pool2d(x.float(), LOW_SIDE).flatten(1))


def two_sample_accuracy(first: Tensor, second: Tensor) -> float:
    """Return how well a linear classifier separates two samples, chance being 0.5 (arXiv 1610.06545, section 3).

    It is a ridge regression, fitted to every other row and tested on the others, and the other way round.

    Args:
        first: rows `(N,D)`, N at least 2.
        second: rows `(N,D)`; row i is made of the same image as row i of `first`, so both are fitted to or both tested.
    """
    right = 0.0
    for held_out in range(2):
        fitted = torch.cat([first[1 - held_out :: 2], second[1 - held_out :: 2]]).double()
        tested = torch.cat([first[held_out::2], second[held_out::2]]).double()
        sign = torch.ones(len(fitted), dtype=torch.double)
        sign[len(fitted) // 2 :] = -1
        mean = fitted.mean(0)
        gram = (fitted - mean) @ (fitted - mean).T
        penalty = RIDGE * gram.diagonal().mean() + torch.finfo(torch.double).tiny
        weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=torch.double), sign)
        score = (tested - mean) @ ((fitted - mean).T @ weight)
        score[len(tested) // 2 :] *= -1
        right += float((score.sign() + 1).sum()) / 2  # a tie is half right
    return right / (2 * len(first))


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(1, keepdim=True)
