"""Separable resizing and blurring: along each side a new pixel is a weighted sum of a few old ones, the taps.

On the CPU the taps are gathered and summed by `embedding_bag`, a row of pixels at a time. On a GPU images of one size
are multiplied by a matrix of the weights; packed images of different sizes (`crop`) are gathered there too.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.objective import to_device

Interpolation = Literal["bilinear", "bicubic"]
REACH = {"bilinear": 1, "bicubic": 2}
"""Half the filter's width in pixels, when an image is not shrunk."""


class Taps(NamedTuple):
    """Hold the taps of each new pixel along a side.

    Attributes:
        pixel: int64 `(N,size,T)`, positions of the old pixels.
        weight: float32 `(N,size,T)`, their weights; zero if fewer than T are needed.
    """

    pixel: Tensor
    weight: Tensor


def separable(x: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Resample images x `(N,C,H,W)`, of any dtype, by `columns` along the width, then by `rows` along the height.

    With taps for V * N images the result is V views of the images, view by view: float32 `(V * N,C,P,Q)`.
    """
    if x.device.type != "cpu":
        return _products(x.float().repeat(len(rows.pixel) // len(x), 1, 1, 1), rows, columns)
    n, c, h, w = x.shape
    many, views = len(rows.pixel), len(rows.pixel) // len(x)
    lines = x.float().permute(0, 3, 1, 2).contiguous()  # in two steps: to change dtype and layout at once is slower
    image = torch.arange(0, n * w, w).repeat(views)[:, None, None]
    across = weighted_sums(lines.view(n * w, c * h), columns.pixel + image, columns.weight).view(many, -1, c, h)
    lines = across.permute(0, 2, 3, 1).contiguous()
    plane = torch.arange(0, many * c * h, h).view(many, c, 1, 1)
    pixel, weight = rows.pixel[:, None] + plane, rows.weight[:, None].expand(-1, c, -1, -1)
    return weighted_sums(lines.view(many * c * h, -1), pixel, weight).view(many, c, -1, lines.shape[3])


def resize_taps(
    start: Tensor, length: Tensor, size: int, interpolation: Interpolation, device: torch.device | None = None
) -> Taps:
    """Return taps that resize `length` pixels from `start` on, `(N,)` each, to `size`, with antialiasing.

    As torchvision's `resize(antialias=True)` and Pillow: pixel centres are at halves, the filter is widened by the
    scale when an image is shrunk, and no pixel outside the range is used. Bicubic is Keys' kernel with a = -1/2.
    """
    lengths, which = torch.unique(length, return_inverse=True)  # few, however many images there are
    scale = (lengths.to(torch.float32) / size)[:, None]
    reach = scale.clamp(min=1) * REACH[interpolation]
    centre = scale * (torch.arange(size, dtype=torch.float32) + 0.5)  # (U,size)
    first = (centre - reach + 0.5).floor_().clamp_(min=0)
    pixel = first[:, :, None] + torch.arange(math.ceil(2 * float(reach.max())))  # (U,size,T)
    distance = (pixel + 0.5).sub_(centre[:, :, None]).mul_((1 / scale.clamp(min=1))[:, :, None]).abs_()
    weight = distance.neg_().add_(1).clamp_(min=0) if interpolation == "bilinear" else _cubic(distance)
    weight.mul_(pixel < lengths[:, None, None])
    weight.div_(weight.sum(2, keepdim=True))
    pixel = torch.minimum(pixel, lengths[:, None, None] - 1).long()
    pixel, weight, which, start = (to_device(field, device) for field in (pixel, weight, which, start))
    return Taps(pixel[which].add_(start[:, None, None]), weight[which])


def _cubic(distance: Tensor) -> Tensor:
    """Compute Keys' kernel (1981) as the sum of two cubics, each zero in the other's range."""
    near = distance.clamp(max=1)
    far = distance.clamp_(1, 2)
    inner = near.mul(1.5).sub_(2.5).mul_(near).mul_(near).add_(1)
    return inner.add_(far.mul(-0.5).add_(2.5).mul_(far).sub_(4).mul_(far).add_(2))


def weighted_sums(lines: Tensor, which: Tensor, weight: Tensor) -> Tensor:
    """Compute weighted sums `(B,K)` of T lines each, of `(L,K)`; `which` and `weight` hold B times T numbers."""
    bags = (-1, which.shape[-1])
    return F.embedding_bag(which.reshape(bags), lines, mode="sum", per_sample_weights=weight.reshape(bags))


def _products(x: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Compute `R @ x @ C^T` per image and channel, for the matrices R of `rows` and C of `columns`."""
    n, c, h, w = x.shape
    right, left = _dense(columns, w), _dense(rows, h)
    across = torch.bmm(x.view(n, c * h, w), right.transpose(1, 2)).view(n, c, h, right.shape[1])
    down = torch.empty(n, c, left.shape[1], right.shape[1], dtype=x.dtype, device=x.device)
    for channel in range(c):  # one matrix for all channels: a product per channel saves copies of it
        down[:, channel] = torch.bmm(left, across[:, channel])
    return down


def _dense(taps: Taps, length: int) -> Tensor:
    """Return the taps as a matrix `(N,size,length)`."""
    n, size, _ = taps.pixel.shape
    return torch.zeros(n, size, length, device=taps.pixel.device).scatter_add_(2, taps.pixel, taps.weight)
