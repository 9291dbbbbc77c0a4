"""Gaussian blur, each image with its own width."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn, number
from ssl_cli.augment.resample import separable
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import BlurSettings


class Blurred(NamedTuple):
    """Which images are blurred, bool `(N,)`, and each one's standard deviation in pixels, float32 `(N,)`."""

    on: Tensor
    sigma: Tensor


class Blur:
    """Gaussian blur with probability p and a random sigma per image and view; borders are reflected (SimCLR)."""

    slots = draws.slots("blur", 2)

    def __init__(self, settings: BlurSettings, size: int) -> None:
        self.settings = settings
        self.size = size
        self.radius = min(_radius(settings, size), size - 1)

    def draw(self, key: draws.Key, sides: Tensor) -> Blurred:
        """A coin and a sigma for every image."""
        coin, u = draws.uniform(*key, self.slots).unbind(1)
        low, high = self.settings.sigma
        return Blurred(coin < self.settings.p, low + (high - low) * u)

    def apply(self, x: Tensor, params: Blurred) -> Tensor:
        """Images `(N,C,size,size)`, some of them blurred; in place."""

        def change(some: Tensor, rows: Tensor) -> Tensor:
            band = self.filters(params.sigma[rows].to(x.device, non_blocking=True))
            return separable(some, band, band).clamp_(max=1)  # weights sum to one only within rounding

        return on_rows(x, params.on, change)

    def describe(self, params: Blurred, row: int, sides: Tensor) -> Drawn | None:
        """Sigma in pixels of the view, or None for an image that stays sharp."""
        if not params.on[row]:
            return None
        sigma = number(params.sigma[row])
        return Drawn({"sigma": sigma}, f"blur {sigma:.1f}")

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Blurred]]:
        """From the smallest sigma to the largest."""
        n = len(sides)
        on = torch.ones(n, dtype=torch.bool)
        return {"": [Blurred(on, sigma.expand(n)) for sigma in torch.linspace(*self.settings.sigma, count)]}

    def filters(self, sigma: Tensor) -> Tensor:
        """The blur of a line as a matrix `(N,size,size)`: a Gaussian band, folded back at the borders."""
        tap = torch.arange(-self.radius, self.radius + 1, device=sigma.device)
        weight = (tap / sigma[:, None]).square_().mul_(-0.5).exp_()
        weight = weight / weight.sum(1, keepdim=True)
        last = self.size - 1
        source = (torch.arange(self.size, device=sigma.device)[:, None] + tap).abs()
        source = last - (last - source).abs()  # (size,taps): mirrored at the first and at the last pixel
        band = torch.zeros(len(sigma), self.size, self.size, device=sigma.device)
        shape = (len(sigma), *source.shape)
        band.scatter_add_(2, source.expand(shape), weight[:, None].expand(shape))
        return band


def _radius(settings: BlurSettings, size: int) -> int:
    """Taps on each side of the centre; a share of the side is rounded down and made odd, as SimCLR's 22 becomes 23."""
    if settings.kernel == "full":
        return math.ceil(3 * settings.sigma[1])
    return max(1, int(settings.kernel * size + 1e-9) // 2)
