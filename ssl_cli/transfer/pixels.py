"""Rows of images without any network: what an encoder has to beat, and what matches two views without learning."""

import torch
import torch.nn.functional as F
from torch import Tensor

PIXEL_SIDE, LOW_SIDE, BINS = 32, 8, 8


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


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(1, keepdim=True)
