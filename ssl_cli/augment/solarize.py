"""Solarisation: bright pixels are inverted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import SolarizeSettings


class Solarized(NamedTuple):
    """Which images are solarised: bool `(N,)`."""

    on: Tensor


class Solarize:
    """Inverts the values from a threshold on, with probability p (as torchvision on floats)."""

    slots = draws.slots("solarize", 1)

    def __init__(self, settings: SolarizeSettings, size: int) -> None:
        self.settings = settings

    def draw(self, key: draws.Key, sides: Tensor) -> Solarized:
        """A coin for every image."""
        return Solarized(draws.uniform(*key, self.slots[0]) < self.settings.p)

    def apply(self, x: Tensor, params: Solarized) -> Tensor:
        """Images `(N,C,H,W)` in [0, 1], some of them solarised; in place."""
        return on_rows(x, params.on, lambda some, rows: _inverted(some, self.settings.threshold))

    def describe(self, params: Solarized, row: int, sides: Tensor) -> Drawn | None:
        """`true`, or None for an image that stays as it is."""
        return Drawn(True, "solarize") if params.on[row] else None

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Solarized]]:
        """Off and on."""
        off = torch.zeros(len(sides), dtype=torch.bool)
        return {"": [Solarized(off), Solarized(~off)]}


def _inverted(x: Tensor, threshold: float) -> Tensor:
    """|x - 1| where x is bright and |x - 0| where it is not; in place, at a tenth of the time of `torch.where`."""
    return x.sub_(x.clone().ge_(threshold)).abs_()
