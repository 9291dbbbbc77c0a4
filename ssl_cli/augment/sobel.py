"""Sobel filtering: replace an image by its edges."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.gray import LUMA, luma
from ssl_cli.augment.rows import on_rows
from ssl_cli.config.augment import SobelSettings


class Edged(NamedTuple):
    """Hold which images are filtered: bool `(N,)`."""

    on: Tensor


class Sobel:
    """Replace all channels by the magnitude of the brightness's gradient, with probability p.

    SimCLR's paper gives no definition. Here: `sqrt(gx^2 + gy^2)` with the kernel `[[-1,0,1], [-2,0,2], [-1,0,1]]` and
    its transpose, not scaled (as in OpenCV and SciPy), the border pixels repeated outwards, clamped to [0, 1].
    Brightness is the luma of RGB images and the mean of the channels of others.
    """

    slots = draws.slots("sobel", 1)

    def __init__(self, settings: SobelSettings, size: int) -> None:
        self.settings = settings

    def draw(self, key: draws.Key, sides: Tensor) -> Edged:
        """Draw whether each image is filtered."""
        return Edged(draws.uniform(*key, self.slots[0]) < self.settings.p)

    def apply(self, x: Tensor, params: Edged) -> Tensor:
        """Filter images `(N,C,H,W)` in [0, 1] where drawn; x may be overwritten."""
        return on_rows(x, params.on, lambda images, rows: edges(images).repeat(1, x.shape[1], 1, 1))

    def describe(self, params: Edged, row: int, sides: Tensor) -> Drawn | None:
        """Report `true`; None for an image that is not filtered."""
        return Drawn(True, "sobel") if params.on[row] else None

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Edged]]:
        """Return parameters for off and on."""
        off = torch.zeros(len(sides), dtype=torch.bool)
        return {"": [Edged(off), Edged(~off)]}


def edges(x: Tensor) -> Tensor:
    """Compute the Sobel gradient magnitude `(N,1,H,W)` of images `(N,C,H,W)` in [0, 1], clamped to at most 1.

    Kernels, border and brightness are as in `Sobel`; x is unchanged.
    """
    gray = luma(x) if x.shape[1] == len(LUMA) else x.mean(1, keepdim=True)
    wide = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    across = wide[..., 2:] - wide[..., :-2]
    down = wide[..., 2:, :] - wide[..., :-2, :]
    gx = (across[..., :-2, :] + across[..., 2:, :]).add_(across[..., 1:-1, :], alpha=2)
    gy = (down[..., :-2] + down[..., 2:]).add_(down[..., 1:-1], alpha=2)
    return gx.square_().add_(gy.square_()).sqrt_().clamp_(max=1)
