"""Gaussian blur, with a standard deviation per image, as in torchvision."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn, number
from ssl_cli.augment.resample import Taps, separable
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import BlurSettings
from ssl_cli.objective import to_device

ENOUGH = 4.5
"""Half the filter's width in sigmas: beyond it are 7 millionths of the weight."""


class Blurred(NamedTuple):
    """Hold which images are blurred, bool `(N,)`, and their standard deviations in pixels, float32 `(N,)`."""

    on: Tensor
    sigma: Tensor


class Blur:
    """Blur an image with probability p and a random sigma per image and view; borders are reflected, as in torchvision.

    SimCLR's own code pads with zeros, and draws one sigma per view and device.
    """

    slots = draws.slots("blur", 2)

    def __init__(self, settings: BlurSettings, size: int) -> None:
        self.settings = settings
        self.size = size
        self.radius = min(_radius(settings, size), size - 1)

    def draw(self, key: draws.Key, sides: Tensor) -> Blurred:
        """Draw whether each image is blurred, and its sigma."""
        coin, u = draws.uniform(*key, self.slots).unbind(1)
        low, high = self.settings.sigma
        return Blurred(coin < self.settings.p, low + (high - low) * u)

    def apply(self, x: Tensor, params: Blurred) -> Tensor:
        """Blur images `(N,C,size,size)` where drawn, in place."""

        def change(images: Tensor, rows: Tensor) -> Tensor:
            taps = self.taps(params.sigma[rows], x.device)
            return separable(images, taps, taps).clamp_(max=1)  # weights sum to one only within rounding

        return on_rows(x, params.on, change)

    def describe(self, params: Blurred, row: int, sides: Tensor) -> Drawn | None:
        """Report sigma in pixels of the view; None for an image that is not blurred."""
        if not params.on[row]:
            return None
        sigma = number(params.sigma[row])
        return Drawn({"sigma": sigma}, f"blur {sigma:.1f}")

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Blurred]]:
        """Return parameters from the smallest sigma to the largest."""
        n = len(sides)
        on = torch.ones(n, dtype=torch.bool)
        return {"": [Blurred(on, sigma.expand(n)) for sigma in torch.linspace(*self.settings.sigma, count)]}

    def taps(self, sigma: Tensor, device: torch.device | None = None) -> Taps:
        """Return the taps of a blurred line with mirrored ends, as many as the largest of `sigma` `(N,)` needs."""
        radius = min(self.radius, math.ceil(ENOUGH * float(sigma.max())))
        tap = torch.arange(-radius, radius + 1)
        weight = (tap / sigma[:, None]).square_().mul_(-0.5).exp_()
        weight.mul_(tap.abs() <= (ENOUGH * sigma[:, None]).ceil())  # independent of the other images
        weight = to_device(weight.div_(weight.sum(1, keepdim=True)), device)
        last = self.size - 1
        pixel = (torch.arange(self.size)[:, None] + tap).abs()
        pixel = to_device(last - (last - pixel).abs(), device)  # mirrored at the first and the last
        shape = (len(sigma), *pixel.shape)
        return Taps(pixel.expand(shape), weight[:, None].expand(shape))


def _radius(settings: BlurSettings, size: int) -> int:
    """Return the taps on each side of the centre: of a fraction of the side, made odd as in SimCLR (22 becomes 23)."""
    if settings.kernel == "full":
        return math.ceil(3 * settings.sigma[1])
    return max(1, int(settings.kernel * size + 1e-9) // 2)
