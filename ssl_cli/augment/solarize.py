"""Solarisation: invert bright pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import SolarizeSettings


class Solarized(NamedTuple):
    """Hold which images are solarised: bool `(N,)`."""

    on: Tensor


class Solarize:
    """Invert the values at or above a threshold, with probability p, as torchvision on floats."""

    slots = draws.slots("solarize", 1)

    def __init__(self, settings: SolarizeSettings, size: int) -> None:
        self.settings = settings

    def draw(self, key: draws.Key, sides: Tensor) -> Solarized:
        """Draw whether each image is solarised."""
        return Solarized(draws.uniform(*key, self.slots[0]) < self.settings.p)

    def apply(self, x: Tensor, params: Solarized) -> Tensor:
        """Solarise images `(N,C,H,W)` in [0, 1] where drawn, in place."""
        return on_rows(x, params.on, lambda images, rows: _inverted(images, self.settings.threshold))

    def describe(self, params: Solarized, row: int, sides: Tensor) -> Drawn | None:
        """Report `true`; None for an image that is not solarised."""
        return Drawn(True, "solarize") if params.on[row] else None

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Solarized]]:
        """Return parameters for off and on."""
        off = torch.zeros(len(sides), dtype=torch.bool)
        return {"": [Solarized(off), Solarized(~off)]}


def _inverted(x: Tensor, threshold: float) -> Tensor:
    """Compute |x - 1| where x is bright, else |x - 0|, in place; ten times as fast as `torch.where`."""
    return x.sub_(x.clone().ge_(threshold)).abs_()
