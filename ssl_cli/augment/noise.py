"""Gaussian noise."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn, number
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import NoiseSettings
from ssl_cli.objective import to_device

LEVELS = 1 << 16


class Noised(NamedTuple):
    """Hold which images get noise, and its parameters.

    Attributes:
        on: bool `(N,)`.
        sigma: float32 `(N,)`, standard deviation where white is 1.
        word: int64 `(N,)`, which the noise of every pixel is a hash of.
    """

    on: Tensor
    sigma: Tensor
    word: Tensor


class Noise:
    """Add Gaussian noise, independent per pixel and channel, with probability p; clamp to [0, 1].

    A normal number is one of 65,536 quantiles, selected by 16 bits of a hash of (word, counter): exact enough for
    pixels, at most 4.3 sigma, and in less than half the time of Box and Muller's logarithms and cosines.
    """

    slots = draws.slots("noise", 3)

    def __init__(self, settings: NoiseSettings, size: int) -> None:
        self.settings = settings
        p = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
        self.quantiles: Tensor = torch.special.ndtri(p).float()

    def draw(self, key: draws.Key, sides: Tensor) -> Noised:
        """Draw whether each image gets noise, its sigma, and the word of its noise."""
        coin, u = draws.uniform(*key, self.slots[:2]).unbind(1)
        low, high = self.settings.sigma
        return Noised(coin < self.settings.p, low + (high - low) * u, draws.bits(*key, self.slots[2]))

    def apply(self, x: Tensor, params: Noised) -> Tensor:
        """Add noise to images `(N,C,H,W)` in [0, 1] where drawn, in place."""

        def change(images: Tensor, rows: Tensor) -> Tensor:
            sigma, word = (to_device(field[rows], x.device) for field in (params.sigma, params.word))
            noise = self.normal(word, images[0].numel()).mul_(sigma[:, None])
            return images.add_(noise.view_as(images)).clamp_(0, 1)

        return on_rows(x, params.on, change)

    def describe(self, params: Noised, row: int, sides: Tensor) -> Drawn | None:
        """Report sigma; None for an image without noise."""
        if not params.on[row]:
            return None
        sigma = number(params.sigma[row])
        return Drawn({"sigma": sigma}, f"noise {sigma:.2f}")

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Noised]]:
        """Return the same noise from the smallest sigma to the largest."""
        n = len(sides)
        on, word = torch.ones(n, dtype=torch.bool), draws.bits(0, 0, torch.arange(n), 0, self.slots[2])
        return {"": [Noised(on, sigma.expand(n), word) for sigma in torch.linspace(*self.settings.sigma, count)]}

    def normal(self, word: Tensor, count: int) -> Tensor:
        """Draw standard normal numbers, float32 `(N,count)`: a function of `word`, int64 `(N,)`, and the column."""
        counter = torch.arange(-(-count // 4), device=word.device)
        hashed = draws.bits(0, 0, word[:, None] + counter, 0, self.slots[2])
        level = hashed.view(torch.int16)[:, :count].to(torch.int32).add_(LEVELS // 2)  # four to a hash
        return to_device(self.quantiles, word.device).index_select(0, level.flatten()).view(level.shape)
