"""Horizontal flip."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import FlipSettings


class Flipped(NamedTuple):
    """Hold which images are mirrored: bool `(N,)`."""

    on: Tensor


class Flip:
    """Mirror an image with probability p."""

    slots = draws.slots("flip", 1)

    def __init__(self, settings: FlipSettings, size: int) -> None:
        self.settings = settings

    def draw(self, key: draws.Key, sides: Tensor) -> Flipped:
        """Draw whether each image is mirrored."""
        return Flipped(draws.uniform(*key, self.slots[0]) < self.settings.p)

    def apply(self, x: Tensor, params: Flipped) -> Tensor:
        """Mirror images `(N,C,H,W)` where drawn, in place."""
        return on_rows(x, params.on, lambda images, rows: images.flip(3))

    def describe(self, params: Flipped, row: int, sides: Tensor) -> Drawn | None:
        """Report `true`; None for an image that is not mirrored."""
        return Drawn(True, "flip") if params.on[row] else None

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Flipped]]:
        """Return parameters for off and on."""
        off = torch.zeros(len(sides), dtype=torch.bool)
        return {"": [Flipped(off), Flipped(~off)]}
