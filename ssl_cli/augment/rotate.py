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
    """How many quarter turns each image makes, counterclockwise: int64 `(N,)`, 0 to 3."""

    turns: Tensor


class Rotate:
    """Turns an image by 0, 90, 180 or 270 degrees, each as likely, with probability p; exact, pixel for pixel."""

    slots = draws.slots("rotate", 2)

    def __init__(self, settings: RotateSettings, size: int) -> None:
        self.settings = settings

    def draw(self, key: draws.Key, sides: Tensor) -> Turned:
        """A coin and one of four angles for every image."""
        coin, u = draws.uniform(*key, self.slots).unbind(1)
        return Turned((4 * u).long() * (coin < self.settings.p))

    def apply(self, x: Tensor, params: Turned) -> Tensor:
        """Images `(N,C,S,S)`, some of them turned; in place."""
        for turns in (1, 2, 3):
            x = on_rows(x, params.turns == turns, partial(_turned, turns))
        return x

    def describe(self, params: Turned, row: int, sides: Tensor) -> Drawn | None:
        """The angle in degrees, or None for an image that stays upright."""
        degrees = 90 * int(params.turns[row])
        return Drawn({"degrees": degrees}, f"rotate {degrees}") if degrees else None

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Turned]]:
        """All four angles."""
        return {"": [Turned(torch.full((len(sides),), turns)) for turns in range(4)]}


def _turned(turns: int, x: Tensor, rows: Tensor) -> Tensor:
    return x.rot90(turns, (2, 3)).contiguous()  # for those who come after: rot90 is a view with other strides
