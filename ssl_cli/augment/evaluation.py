"""The deterministic transform of evaluation: resize the short side, cut out the centre."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_cli.augment.normalize import Normalize
from ssl_cli.augment.resample import Taps, resize_taps, separable
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.tree import CIFAR_UP_TO


def short_side(size: int) -> int:
    """What a short side becomes: `size` itself up to 64 pixels, above that 256/224 of it (ImageNet's protocol)."""
    return size if size <= CIFAR_UP_TO else round(size * 256 / 224)


def fit(images: Tensor | Sequence[Tensor], size: int, settings: AugmentSettings) -> Tensor:
    """uint8 images, `(N,C,H,W)` or N of `(C,H,W)`, as float32 `(N,C,size,size)`, channels_last.

    Images of that size already are taken as they are. Values lie in [0, 1], or are normalised if `settings.order`
    says so. Antialiased, with the crop's interpolation.
    """
    with torch.autocast(images[0].device.type, enabled=False):
        if isinstance(images, Tensor):
            x = _fit(images, size, settings)
        else:
            x = torch.cat([_fit(image[None], size, settings) for image in images])
    if "normalize" in settings.order:
        x = Normalize(settings.normalize, size).apply(x)
    return x.contiguous(memory_format=torch.channels_last)


def _fit(x: Tensor, size: int, settings: AugmentSettings) -> Tensor:
    """Images of one shape: only those lines of the resized image are computed that lie in the centre."""
    height, width = x.shape[2:]
    if height == width == size:
        return x.float().div_(255)
    short = short_side(size)
    rows, columns = (_centre(side, side * short // min(height, width), size, settings, x) for side in (height, width))
    return separable(x, rows._replace(weight=rows.weight / 255), columns).clamp_(0, 1)


def _centre(source: int, resized: int, size: int, settings: AugmentSettings, x: Tensor) -> Taps:
    """The middle `size` of `resized` lines, the same for every image of x."""
    start = round((resized - size) / 2)
    how = settings.crop.interpolation
    taps = resize_taps(torch.tensor([0]), torch.tensor([source]), resized, how, x.device)
    pixel, weight = (field[:, start : start + size].expand(len(x), -1, -1) for field in taps)
    return Taps(pixel, weight)
