"""Cutout: a square of the image is replaced by gray."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import CutoutSettings
from ssl_cli.objective import to_device


class Patch(NamedTuple):
    """Hold which images lose a patch, bool `(N,)`, and its place in the view in pixels, int64 `(N,)` each."""

    on: Tensor
    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


class Cutout:
    """Erase a square of random size, with probability p (DeVries and Taylor 2017, arXiv 1708.04552).

    As in the paper every pixel is as likely to be the centre, and a square is cut off at the border.
    """

    slots = draws.slots("cutout", 4)

    def __init__(self, settings: CutoutSettings, size: int) -> None:
        self.settings = settings
        self.size = size

    def draw(self, key: draws.Key, sides: Tensor) -> Patch:
        """Draw whether each image is changed, and the side and centre of its patch."""
        coin, u, y, x = draws.uniform(*key, self.slots).unbind(1)
        low, high = self.settings.size
        centre = (torch.stack([y, x]) * self.size).long()
        return self._patch(coin < self.settings.p, low + (high - low) * u, centre)

    def apply(self, x: Tensor, params: Patch) -> Tensor:
        """Erase patches of images `(N,C,size,size)` where drawn, in place."""
        pixel = torch.arange(self.size, device=x.device)

        def change(images: Tensor, rows: Tensor) -> Tensor:
            top, left, height, width = (to_device(side[rows, None], x.device) for side in params[1:])
            inside_y = ((pixel >= top) & (pixel < top + height)).to(x.dtype)
            inside_x = ((pixel >= left) & (pixel < left + width)).to(x.dtype)
            inside = inside_y[:, None, :, None] * inside_x[:, None, None, :]
            return images.mul_(1 - inside).add_(inside, alpha=self.settings.fill)  # faster than masked_fill

        return on_rows(x, params.on, change)

    def describe(self, params: Patch, row: int, sides: Tensor) -> Drawn | None:
        """Report the patch in pixels of the view; in words its fraction of the view's area, and left and top."""
        if not params.on[row]:
            return None
        top, left, height, width = (int(side[row]) for side in params[1:])
        value = {"top": top, "left": left, "height": height, "width": width}
        return Drawn(value, f"cutout {100 * height * width / self.size**2:.0f} % at {left},{top}")

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Patch]]:
        """Return centred patches, from the smallest to the largest."""
        n = len(sides)
        on, centre = torch.ones(n, dtype=torch.bool), torch.full((2, n), self.size // 2)
        return {"": [self._patch(on, share.expand(n), centre) for share in torch.linspace(*self.settings.size, count)]}

    def _patch(self, on: Tensor, fraction: Tensor, centre: Tensor) -> Patch:
        """Return squares around centres `(2,N)`, of these fractions of the side, cut off at the border."""
        side = (fraction * self.size).round().clamp(min=1).long()
        start = centre - side // 2
        first, last = start.clamp(min=0), (start + side).clamp(max=self.size)
        return Patch(on, *first, *(last - first))
