"""Conversion to gray."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import GraySettings

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601, rounded as in torchvision)."""


class Grayed(NamedTuple):
    """Hold which images become gray: bool `(N,)`."""

    on: Tensor


class Gray:
    """Replace all three channels by the luma, with probability p; other images than RGB are not changed."""

    slots = draws.slots("gray", 1)

    def __init__(self, settings: GraySettings, size: int) -> None:
        self.settings = settings

    def draw(self, key: draws.Key, sides: Tensor) -> Grayed:
        """Draw whether each image becomes gray."""
        return Grayed(draws.uniform(*key, self.slots[0]) < self.settings.p)

    def apply(self, x: Tensor, params: Grayed) -> Tensor:
        """Convert images `(N,C,H,W)` to gray where drawn, in place."""
        if x.shape[1] != len(LUMA):
            return x
        return on_rows(x, params.on, lambda images, rows: luma(images).repeat(1, 3, 1, 1))

    def describe(self, params: Grayed, row: int, sides: Tensor) -> Drawn | None:
        """Report `true`; None for an image that keeps its colour."""
        return Drawn(True, "gray") if params.on[row] else None

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Grayed]]:
        """Return parameters for off and on."""
        off = torch.zeros(len(sides), dtype=torch.bool)
        return {"": [Grayed(off), Grayed(~off)]}


def luma(x: Tensor) -> Tensor:
    """Compute the luma `(N,1,H,W)` of RGB images `(N,3,H,W)`."""
    red, green, blue = LUMA
    return (x[:, :1] * red).add_(x[:, 1:2], alpha=green).add_(x[:, 2:], alpha=blue)
