"""Pictures to augment: smooth shapes, saturated colours, hard edges and noise; and the keys their draws hang on."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.draws import Key
from ssl_cli.objective import Batch


def pictures(n: int, height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """uint8 `(n,channels,height,width)`."""
    g = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.rand(n, channels, 4, 4, generator=g), (height, width), mode="bicubic")
    x = (smooth - 0.5) * 1.8 + 0.5 + 0.08 * torch.randn(n, channels, height, width, generator=g)
    x[:, :, height // 3 : height // 2, width // 4 : width // 2] = torch.rand(n, channels, 1, 1, generator=g)
    x[:, :, -3:, -3:] = 1
    x[:, :, :2, :2] = 0
    return x.clamp(0, 1).mul(255).round().to(torch.uint8)


def key(n: int, view: int = 0) -> Key:
    return Key(0, 0, torch.arange(n), view)


def sides(n: int, height: int, width: int) -> Tensor:
    return torch.tensor([[height, width]]).expand(n, 2)


def batch(images: Tensor | Sequence[Tensor], epoch: int = 0, first: int = 0) -> Batch:
    n = len(images)
    return Batch(images, torch.full((n,), -1), torch.arange(first, first + n), epoch)


def ks_distance(a: Tensor, b: Tensor) -> float:
    """Two-sample Kolmogorov-Smirnov distance times sqrt(nm/(n+m)); below 1.95 in 99.9 % of samples."""
    a, b = a.double().sort().values, b.double().sort().values
    everywhere = torch.cat([a, b])
    gap = torch.searchsorted(a, everywhere, right=True) / len(a) - torch.searchsorted(b, everywhere, right=True) / len(
        b
    )
    return gap.abs().max().item() * math.sqrt(len(a) * len(b) / (len(a) + len(b)))
