"""Random resized crop: a random box of each image, resized to one side length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.resample import Taps, resize_taps, separable
from ssl_cli.config.augment import CropSettings

TRIES = 10
WHOLE_SIDE = 64
"""On the CPU, images of one size up to this side are resized together, whole; larger ones one by one, cut out first."""


class Box(NamedTuple):
    """The rectangle that is kept, in pixels of the source; int64 `(N,)` each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


class Crop:
    """A box of random area, aspect ratio and place, resized (Szegedy et al. 2015; sampled as torchvision does)."""

    slots = draws.slots("crop", 2 * TRIES + 2)

    def __init__(self, settings: CropSettings, size: int) -> None:
        self.settings = settings
        self.size = size

    def draw(self, key: draws.Key, sides: Tensor) -> Box:
        """A box for every image, from heights and widths `sides`, int64 `(N,2)`.

        Of ten boxes the first that fits; if none does, the largest centred box within the range of aspect ratios.
        Where the scale is one, that box at once: nothing is random.
        """
        if self.settings.scale == (1.0, 1.0):
            return self.centred(sides)
        u = draws.uniform(*key, self.slots).double()
        h, w = sides[:, :1].double(), sides[:, 1:].double()
        low, high = self.settings.scale
        flat, wide = self.settings.ratio
        area = h * w * (low + (high - low) * u[:, :TRIES])
        ratio = (math.log(flat) + math.log(wide / flat) * u[:, TRIES : 2 * TRIES]).exp()
        heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
        fits = (heights > 0) & (heights <= h) & (widths > 0) & (widths <= w)
        first = fits.int().argmax(1, keepdim=True)
        any_fits = fits.any(1)
        height = torch.where(any_fits, heights.gather(1, first)[:, 0], torch.minimum(h, (w / flat).round())[:, 0])
        width = torch.where(any_fits, widths.gather(1, first)[:, 0], torch.minimum(w, (h * wide).round())[:, 0])
        height, width = height.clamp(min=1).long(), width.clamp(min=1).long()
        free_y, free_x = sides[:, 0] - height, sides[:, 1] - width
        top = (u[:, -2] * (free_y + 1)).long()
        left = (u[:, -1] * (free_x + 1)).long()
        return Box(torch.where(any_fits, top, free_y // 2), torch.where(any_fits, left, free_x // 2), height, width)

    def apply(self, images: Tensor | Sequence[Tensor], box: Box) -> Tensor:
        """The boxes of uint8 images, `(N,C,H,W)` or N of `(C,H,W)`, as float32 `(V * N,C,size,size)` in [0, 1].

        V times as many boxes as images are V views of them, view by view.
        """
        if isinstance(images, Tensor) and (images.is_cuda or max(images.shape[2:]) <= WHOLE_SIDE):
            return separable(images, *self._taps(box, images.device)).clamp_(0, 1)
        corners = torch.stack(box, 1).tolist()
        zero = torch.zeros_like(box.top)
        sides = self._taps(box._replace(top=zero, left=zero), images[0].device)
        out = torch.empty(len(corners), images[0].shape[0], self.size, self.size, device=images[0].device)
        for k, (top, left, h, w) in enumerate(corners):
            cut = images[k % len(images)][None, :, top : top + h, left : left + w]
            view = separable(cut, *(Taps(*(field[k : k + 1] for field in side)) for side in sides))
            torch.clamp(view[0], 0, 1, out=out[k])
        return out

    def describe(self, params: Box, row: int, sides: Tensor) -> Drawn | None:
        """The box in pixels of the source; in words its share of the image's area, and left and top."""
        top, left, height, width = (int(side[row]) for side in params)
        share = 100 * height * width / int(sides[row].prod())
        value = {"top": top, "left": left, "height": height, "width": width}
        return Drawn(value, f"crop {share:.0f} % at {left},{top}")

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Box]]:
        """Boxes in the middle, from the largest share of the area to the smallest."""
        low, high = self.settings.scale
        return {"": [self.centred(sides, share) for share in torch.linspace(high, low, count).tolist()]}

    def centred(self, sides: Tensor, share: float = 1.0) -> Box:
        """The box of this share of the area in the middle of every image, within the range of aspect ratios."""
        h, w = sides.double().unbind(1)
        flat, wide = self.settings.ratio
        ratio = (w / h).clamp(flat, wide)
        height = torch.minimum((share * h * w / ratio).sqrt(), torch.minimum(h, w / ratio)).round().clamp(min=1).long()
        width = torch.minimum((share * h * w * ratio).sqrt(), torch.minimum(w, h * ratio)).round().clamp(min=1).long()
        return Box((sides[:, 0] - height) // 2, (sides[:, 1] - width) // 2, height, width)

    def _taps(self, box: Box, device: torch.device) -> tuple[Taps, Taps]:
        """Along the height and along the width; bytes become numbers from 0 to 1."""
        start, length = torch.cat([box.top, box.left]), torch.cat([box.height, box.width])
        pixel, weight = resize_taps(start, length, self.size, self.settings.interpolation, device)
        n = len(box.top)
        return Taps(pixel[:n], weight[:n].div_(255)), Taps(pixel[n:], weight[n:])
