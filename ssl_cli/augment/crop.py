"""Random resized crop: a random box of each image, resized to one side length, as in torchvision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.augment.drawn import Drawn
from ssl_cli.augment.resample import REACH, Taps, resize_taps, separable, weighted_sums
from ssl_cli.config.augment import CropSettings
from ssl_cli.objective import PackedImages, to_device

TRIES = 10
WHOLE_SIDE = 64
"""On the CPU, images of one size up to this side are resized together, whole; larger ones one by one, cut out first."""
PACKED_TAPS = 1 << 25
"""Taps that packed images are resized with at once: at most 0.7 GB of indices and weights."""


class Box(NamedTuple):
    """The rectangle of each image that is kept, in pixels of the source; int64 `(N,)` each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


class Crop:
    """Cut out a box of random area, aspect ratio and place, and resize it (Szegedy et al. 2015, arXiv 1409.4842).

    Sampled and resized as torchvision's RandomResizedCrop. SimCLR's own code draws other boxes: TensorFlow's
    `sample_distorted_bounding_box` with `min_object_covered=0.1` has a median area of 0.41 of the image, not 0.48.
    """

    slots = draws.slots("crop", 2 * TRIES + 2)

    def __init__(self, settings: CropSettings, size: int) -> None:
        self.settings = settings
        self.size = size

    def draw(self, key: draws.Key, sides: Tensor) -> Box:
        """Draw a box for every image, from heights and widths `sides`, int64 `(N,2)`.

        It is the first of ten boxes that lies inside the image, or if none does the largest centred box within the
        range of aspect ratios. With scale (1, 1) it is always that one.
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
        """Resize the boxes of N images, uint8 or int16, to float32 `(V * N,C,size,size)` in [0, 1].

        Args:
            images: `(N,C,H,W)`, N tensors `(C,H_i,W_i)`, or those packed.
            box: V * N boxes: V views of the images, view by view.
        """
        if isinstance(images, PackedImages):
            return self._apply_packed(images, box)
        if isinstance(images, Tensor) and (images.is_cuda or max(images.shape[2:]) <= WHOLE_SIDE):
            return separable(images, *self._taps(box, images)).clamp_(0, 1)
        corners = torch.stack(box, 1).tolist()
        zero = torch.zeros_like(box.top)
        sides = self._taps(box._replace(top=zero, left=zero), images[0])
        out = torch.empty(len(corners), images[0].shape[0], self.size, self.size, device=images[0].device)
        for k, (top, left, h, w) in enumerate(corners):
            cut = images[k % len(images)][None, :, top : top + h, left : left + w]
            view = separable(cut, *(Taps(*(field[k : k + 1] for field in side)) for side in sides))
            torch.clamp(view[0], 0, 1, out=out[k])
        return out

    def describe(self, params: Box, row: int, sides: Tensor) -> Drawn | None:
        """Report the box in pixels of the source; in words its fraction of the image's area, and left and top."""
        top, left, height, width = (int(side[row]) for side in params)
        share = 100 * height * width / int(sides[row].prod())
        value = {"top": top, "left": left, "height": height, "width": width}
        return Drawn(value, f"crop {share:.0f} % at {left},{top}")

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Box]]:
        """Return centred boxes, from the largest fraction of the area to the smallest."""
        low, high = self.settings.scale
        return {"": [self.centred(sides, share) for share in torch.linspace(high, low, count).tolist()]}

    def centred(self, sides: Tensor, share: float = 1.0) -> Box:
        """Return the centred box of this fraction of every image's area, within the range of aspect ratios."""
        h, w = sides.double().unbind(1)
        flat, wide = self.settings.ratio
        ratio = (w / h).clamp(flat, wide)
        height = torch.minimum((share * h * w / ratio).sqrt(), torch.minimum(h, w / ratio)).round().clamp(min=1).long()
        width = torch.minimum((share * h * w * ratio).sqrt(), torch.minimum(w, h * ratio)).round().clamp(min=1).long()
        return Box((sides[:, 0] - height) // 2, (sides[:, 1] - width) // 2, height, width)

    def _apply_packed(self, images: PackedImages, box: Box) -> Tensor:
        """Resize the boxes of packed images, many at a time: first along all their lines, then along all columns."""
        device, channels = images.pixels.device, images.pixels.shape[1]
        pixels, white = images.pixels.float(), torch.iinfo(images.pixels.dtype).max
        views = len(box.top) // len(images)
        stride = images.sides[:, 1].repeat(views)
        first = images.start.repeat(views) + box.top * stride + box.left
        out = torch.empty(len(first), channels, self.size, self.size, device=device)
        for rows in self._groups(box):
            height, width, start = box.height[rows], box.width[rows], torch.zeros_like(rows)
            across = resize_taps(start, width, self.size, self.settings.interpolation, device)
            down = resize_taps(start, height, self.size, self.settings.interpolation, device)
            above = height.cumsum(0) - height  # lines of the boxes before
            which = torch.repeat_interleave(height)  # the box of each line
            line = first[rows][which] + (torch.arange(len(which)) - above[which]) * stride[rows][which]
            which, line, above, rows = (to_device(field, device) for field in (which, line, above, rows))
            lines = weighted_sums(pixels, across.pixel[which].add_(line[:, None, None]), across.weight[which])
            lines = lines.view(-1, self.size * channels)
            x = weighted_sums(lines, down.pixel.add_(above[:, None, None]), down.weight.div_(white))
            out[rows] = x.view(len(rows), self.size, self.size, channels).permute(0, 3, 1, 2).clamp_(0, 1)
        return out

    def _groups(self, box: Box) -> Sequence[Tensor]:
        """Split the boxes, by width, into groups that are resized with `PACKED_TAPS` taps or one box at a time."""
        order = box.width.argsort()
        taps = 2 * REACH[self.settings.interpolation] * (box.width[order] / self.size).clamp(min=1)
        group = (box.height[order] * self.size * taps.ceil()).cumsum(0).div(PACKED_TAPS).long()
        return torch.split(order, torch.unique_consecutive(group, return_counts=True)[1].tolist())

    def _taps(self, box: Box, images: Tensor) -> tuple[Taps, Taps]:
        """Return the taps along the height, which map numbers of the images' type to [0, 1], and along the width."""
        start, length = torch.cat([box.top, box.left]), torch.cat([box.height, box.width])
        pixel, weight = resize_taps(start, length, self.size, self.settings.interpolation, images.device)
        n, white = len(box.top), torch.iinfo(images.dtype).max
        return Taps(pixel[:n], weight[:n].div_(white)), Taps(pixel[n:], weight[n:])
