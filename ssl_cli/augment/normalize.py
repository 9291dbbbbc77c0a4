"""Normalisation of the channels."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.config.augment import NormalizeSettings
from ssl_cli.objective import to_device


class Normalize:
    """Subtract a mean and divide by a standard deviation per channel, 1 or C of them; draw nothing."""

    slots = draws.slots("normalize", 0)

    def __init__(self, settings: NormalizeSettings, size: int) -> None:
        self.mean = torch.tensor(settings.mean)[:, None, None]
        self.std = torch.tensor(settings.std)[:, None, None]

    def draw(self, key: draws.Key, sides: Tensor) -> tuple[()]:
        """Draw nothing."""
        return ()

    def apply(self, x: Tensor, params: tuple[()] = ()) -> Tensor:
        """Normalise images `(N,C,H,W)` in [0, 1], in place."""
        return x.sub_(to_device(self.mean, x.device)).div_(to_device(self.std, x.device))

    def describe(self, params: tuple[()], row: int, sides: Tensor) -> Drawn | None:
        """Report nothing: it is the same for every view, and pictures show images before it."""
        return None

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[tuple[()]]]:
        """Return nothing: it has no strength."""
        return {}

    def undo(self, x: Tensor) -> Tensor:
        """Invert `apply`: return images `(N,C,H,W)` in [0, 1] in a new tensor, on the device of x."""
        return x * self.std.to(x.device) + self.mean.to(x.device)
