"""Rotation by quarter turns."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import RotateSettings


class Turned(NamedTuple):
    """Hold the quarter turns of each image, counterclockwise: int64 `(N,)`, 0 to 3."""

    turns: Tensor


class Rotate:
    """Rotate an image by 0, 90, 180 or 270 degrees, equally likely, with probability p, without interpolation."""

    slots = draws.slots("rotate", 2)

    def __init__(self, settings: RotateSettings, size: int) -> None:
        self.settings = settings

    def draw(self, key: draws.Key, sides: Tensor) -> Turned:
        """Draw whether each image is rotated, and one of four angles."""
        coin, u = draws.uniform(*key, self.slots).unbind(1)
        return Turned((4 * u).long() * (coin < self.settings.p))

    def apply(self, x: Tensor, params: Turned) -> Tensor:
        """Rotate images `(N,C,S,S)` where drawn, in place."""
        for turns in (1, 2, 3):
            x = on_rows(x, params.turns == turns, partial(_turned, turns))
        return x

    def describe(self, params: Turned, row: int, sides: Tensor) -> Drawn | None:
        """Report the angle in degrees; None for an image that is not rotated."""
        degrees = 90 * int(params.turns[row])
        return Drawn({"degrees": degrees}, f"rotate {degrees}") if degrees else None

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Turned]]:
        """Return all four angles."""
        return {"": [Turned(torch.full((len(sides),), turns)) for turns in range(4)]}


def _turned(turns: int, x: Tensor, rows: Tensor) -> Tensor:
    return x.rot90(turns, (2, 3)).contiguous()  # rot90 returns a view with other strides
