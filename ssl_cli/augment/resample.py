"""Resizing and blurring as matrix products: every image its own filter along the rows and another along the columns."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Interpolation = Literal["bilinear", "bicubic"]


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`rows @ x @ columns^T` per image and channel: x `(N,C,H,W)`, rows `(N,P,H)`, columns `(N,Q,W)` -> `(N,C,P,Q)`."""
    n, c, h, w = x.shape
    p, q = rows.shape[1], columns.shape[1]
    across = torch.bmm(x.reshape(n, c * h, w), columns.transpose(1, 2)).view(n, c, h, q)
    down = torch.empty(n, c, p, q, dtype=x.dtype, device=x.device)
    for channel in range(c):  # one filter serves all channels: a product per channel saves copies of it
        down[:, channel] = torch.bmm(rows, across[:, channel])
    return down


def filters(start: Tensor, length: Tensor, source: int, size: int, interpolation: Interpolation) -> Tensor:
    """Weights `(N,size,source)` that resize `length` pixels from `start` on to `size`, `(N,)` each, with antialiasing.

    Pixel centres lie at halves; the filter widens with the scale when it shrinks; it sees no pixel outside the
    stretch, as if that had been cut out first. Bicubic is Keys' kernel with a = -1/2. As torchvision's
    `resize(antialias=True)` and Pillow.
    """
    pixel = torch.arange(source, dtype=torch.float32, device=start.device) + 0.5 - start[:, None]  # (N,source)
    scale = (length.to(torch.float32) / size)[:, None]
    centre = scale * (torch.arange(size, dtype=torch.float32, device=start.device) + 0.5)  # (N,size)
    distance = (pixel[:, None, :] - centre[:, :, None]).mul_((1 / scale.clamp(min=1))[:, :, None]).abs_()
    weight = distance.neg_().add_(1).clamp_(min=0) if interpolation == "bilinear" else _cubic(distance)
    inside = (pixel > 0) & (pixel < length[:, None])
    weight.mul_(inside[:, None, :])
    return weight.div_(weight.sum(2, keepdim=True))


def _cubic(distance: Tensor) -> Tensor:
    """Keys 1981: two cubics, each zero where the other holds, so that their sum needs no choice."""
    near = distance.clamp(max=1)
    far = distance.clamp_(1, 2)
    inner = near.mul(1.5).sub_(2.5).mul_(near).mul_(near).add_(1)
    return inner.add_(far.mul(-0.5).add_(2.5).mul_(far).sub_(4).mul_(far).add_(2))
