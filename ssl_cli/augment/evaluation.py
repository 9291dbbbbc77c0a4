"""The deterministic transform of evaluation: resize the short side, crop the centre."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_cli.augment.normalize import Normalize
from ssl_cli.augment.resample import Taps, resize_taps, separable
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.tree import CIFAR_UP_TO


def short_side(size: int) -> int:
    """Return the resized short side: `size` itself up to 64 pixels, above that 256/224 of it (ImageNet's protocol)."""
    return size if size <= CIFAR_UP_TO else round(size * 256 / 224)


def largest_side(size: int) -> int:
    """Return the short side to which larger images are shrunk while they are decoded, for a test transform to `size`.

    Such images are resized twice, which is not quite resizing once: of photographs of 12 megapixels the least cosine
    of h was 0.99998 at 32 pixels, where twice `size`, as before, gave 0.996.
    """
    return max(512, 6 * size)


def images_at_once(size: int, channels: int) -> int:
    """Return how many images of `largest_side` and an aspect of 4:3 are 256 MiB."""
    return max(1, 2**28 * 3 // (4 * channels * largest_side(size) ** 2))


def fit(images: Tensor | Sequence[Tensor], size: int, settings: AugmentSettings) -> Tensor:
    """Resize and centre-crop images, `(N,C,H,W)` or N of `(C,H,W)`, to float32 `(N,C,size,size)`, channels_last.

    Antialiased, with the interpolation of the crop. Images of that size are not resized. They are uint8 or
    int16; values of the result are in [0, 1], or normalised if `settings.order` has it.
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
    """Fit images of one shape; of the resized image only the centre is computed."""
    (height, width), white = x.shape[2:], torch.iinfo(x.dtype).max
    if height == width == size:
        return x.float().div_(white)
    short = short_side(size)
    rows, columns = (_centre(side, side * short // min(height, width), size, settings, x) for side in (height, width))
    return separable(x, rows._replace(weight=rows.weight / white), columns).clamp_(0, 1)


def _centre(source: int, resized: int, size: int, settings: AugmentSettings, x: Tensor) -> Taps:
    """Return the taps of the middle `size` of `resized` lines, the same for every image of x."""
    start = round((resized - size) / 2)
    how = settings.crop.interpolation
    taps = resize_taps(torch.tensor([0]), torch.tensor([source]), resized, how, x.device)
    pixel, weight = (field[:, start : start + size].expand(len(x), -1, -1) for field in taps)
    return Taps(pixel, weight)
