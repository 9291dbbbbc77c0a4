"""The embedded data set: glyphs on a noisy gray background, computed from a seed, without files.

The class of an image is the shape of its nine glyphs. Position, rotation, colour and size are drawn for each glyph, so
that neither pixels nor colours predict the class, and two crops of an image have only the shape in common.
"""

import functools
import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.data.glyphs import GLYPHS

CLASSES = tuple(GLYPHS)
GROUND, NOISE = 0.5, 0.03
GRID, JITTER, HOLES = 3, 0.04, 0.05
CELLS = GRID**2
RADIUS = (0.15, 0.19)
"""In units of the image's side, as is JITTER."""
LUMINANCE_GAP = 0.25
LUMA = (0.299, 0.587, 0.114)

Stream = Literal["train", "test", "validation"]
_EPOCH: dict[Stream, int] = {"train": -1, "test": -2, "validation": -3}
"""Random numbers of a stream are those of this epoch; augmentation uses none below 0."""
_SLOTS = draws.slots("shapes", 9)


class Shapes:
    """Serve a stream of the embedded set as a source: image i is a function of (seed, stream, i, size)."""

    def __init__(self, count: int, size: int, seed: int, stream: Stream = "train") -> None:
        self.name = f"shapes:{stream}"
        self.classes = CLASSES
        self.size, self.seed, self.stream = size, seed, stream
        self.labels = torch.arange(count) % len(CLASSES)

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> str:
        """Return the name of image `index`, for messages."""
        return f"{self.name}[{index}]"

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Return image `index`, uint8 `(3,S,S)`; `cap` is ignored, for images are rendered at the size of a view."""
        return self.read_many(torch.tensor([index]))[0]

    def read_many(self, indices: Tensor) -> Tensor:
        """Return the images of int64 indices `(N,)`, uint8 `(N,3,S,S)`."""
        images = torch.empty(len(indices), 3, self.size, self.size, dtype=torch.uint8)
        rows = max(1, 2**18 // self.size**2)  # so that intermediate results fit in the CPU's cache
        for start in range(0, len(indices), rows):
            chunk = indices[start : start + rows]
            images[start : start + rows] = render(self.seed, self.stream, chunk, self.size)
        return images


class _Glyphs(NamedTuple):
    """Hold the parameters of nine glyphs an image, `(N,9)` or `(N,9,3)`; lengths in units of the image's side."""

    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    colour: Tensor
    present: Tensor


def render(seed: int, stream: Stream, index: Tensor, size: int) -> Tensor:
    """Render the images of int64 indices `(N,)`, uint8 `(N,3,S,S)`."""
    epoch = _EPOCH[stream]
    canvas = torch.full((len(index), 3, size * size), GROUND)
    _paint(canvas, _draw_glyphs(seed, epoch, index), index % len(CLASSES), size)
    canvas += _noise(seed, epoch, index, 3 * size * size).view_as(canvas)
    return canvas.mul_(255).round_().clamp_(0, 255).byte().view(-1, 3, size, size)


def _draw_glyphs(seed: int, epoch: int, index: Tensor) -> _Glyphs:
    cells = index[:, None] * CELLS + torch.arange(CELLS)
    numbers = draws.uniform(seed, epoch, cells.flatten(), 0, _SLOTS).view(*cells.shape, len(_SLOTS))
    dx, dy, radius, angle, hue, side, gap, pale, hole = numbers.unbind(-1)
    middle = (torch.arange(GRID) + 0.5) / GRID
    return _Glyphs(
        x=middle.repeat(GRID) + JITTER * (2 * dx - 1),
        y=middle.repeat_interleave(GRID) + JITTER * (2 * dy - 1),
        radius=RADIUS[0] + (RADIUS[1] - RADIUS[0]) * radius,
        angle=math.tau * angle,
        colour=_colour(hue, side, gap, pale),
        present=hole >= HOLES,
    )


def _paint(canvas: Tensor, glyphs: _Glyphs, label: Tensor, size: int) -> None:
    """Paint each glyph of class `label` `(N,)` on the canvas `(N,3,S*S)`, in place.

    Only a window around a glyph is changed. It holds any glyph with its antialiased edge, and after moving it inside
    the canvas all of the glyph that is visible.
    """
    side = min(size, math.ceil(2 * RADIUS[1] * size) + 2)
    left = (glyphs.x * size - side / 2).round().clamp(0, size - side)[..., None] + torch.arange(side)
    top = (glyphs.y * size - side / 2).round().clamp(0, size - side)[..., None] + torch.arange(side)
    cover = _coverage(glyphs, label, left, top, size)
    pixels = (top[..., :, None] * size + left[..., None, :]).long().flatten(2)
    for cell in range(CELLS):  # in order, for neighbours may overlap
        where = pixels[:, cell, None].expand(-1, 3, -1)
        below = canvas.gather(2, where)
        canvas.scatter_(2, where, below.lerp_(glyphs.colour[:, cell, :, None], cover[:, cell, None]))


def _coverage(glyphs: _Glyphs, label: Tensor, left: Tensor, top: Tensor, size: int) -> Tensor:
    """Compute the coverage `(N,9,P*P)`, 0 to 1, of each window's pixels by the glyph; columns, rows: `(N,9,P)`."""
    x = (((left + 0.5) / size - glyphs.x[..., None]) / glyphs.radius[..., None])[..., None, :]
    y = (((top + 0.5) / size - glyphs.y[..., None]) / glyphs.radius[..., None])[..., :, None]
    cos, sin = glyphs.angle.cos()[..., None, None], glyphs.angle.sin()[..., None, None]
    u, v = x * cos + y * sin, y * cos - x * sin
    distance = torch.empty_like(u)
    for number, glyph in enumerate(GLYPHS.values()):
        rows = (label == number).nonzero()[:, 0]
        if len(rows):
            distance[rows] = glyph(u[rows], v[rows])
    cover = (0.5 - distance * (glyphs.radius * size)[..., None, None]).clamp_(0, 1)
    return (cover * glyphs.present[..., None, None]).flatten(2)


def _colour(hue: Tensor, side: Tensor, gap: Tensor, pale: Tensor) -> Tensor:
    """Compute RGB `(...,3)` of numbers in 0 to 1, at least LUMINANCE_GAP darker or brighter than the background."""
    shift = torch.tensor([5.0, 3.0, 1.0])
    k = (shift + hue[..., None] * 6) % 6
    pure = 1 - torch.minimum(k, 4 - k).clamp(0, 1)  # HSV at full saturation and value
    luma = torch.tensor(LUMA)
    luminance = (pure * luma).sum(-1, keepdim=True)
    contrast = LUMINANCE_GAP + 0.15 * gap[..., None]
    target = torch.where(side[..., None] < 0.5, GROUND - contrast, GROUND + contrast)
    # Mixed with black or white to the target luminance; both keep the hue.
    lighter = 1 - (1 - pure) * ((1 - target) / (1 - luminance))
    colour = torch.where(target < luminance, pure * (target / luminance), lighter)
    return colour.lerp(target, 0.4 * pale[..., None])


def _noise(seed: int, epoch: int, index: Tensor, values: int) -> Tensor:
    """Draw normal noise `(N, values)`: each 64-bit hash gives four 16-bit indices into a table of quantiles."""
    words = (index[:, None] << 26) + torch.arange(math.ceil(values / 4))
    hashed = draws.bits(seed, epoch, words.flatten(), 1, _SLOTS[0]).view(len(index), -1)
    return _quantiles()[hashed.view(torch.int16)[:, :values].int() + 2**15]


@functools.cache
def _quantiles() -> Tensor:
    middle = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    quantiles: Tensor = torch.special.ndtri(middle)
    return (NOISE * quantiles).float()
