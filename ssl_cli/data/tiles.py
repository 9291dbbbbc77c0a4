"""Large images tile by tile: no second raster is made next to the decoder's."""

import math
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

GIANT = 16_000_000
"""Pixels above which an image is converted and shrunk by tiles; smaller ones are faster as a whole."""
SIDE = 1024
"""Pixels of the file along the side of a tile."""

Box = tuple[int, int, int, int]
Tile = Callable[[Box], Iterable[Image.Image]]


def shrunk_size(size: tuple[int, int], cap: int | None) -> tuple[int, int]:
    """Return the size (width, height) with a short side of at most `cap`, and the same aspect."""
    short = min(size)
    if cap is None or short <= cap:
        return size
    width, height = (round(side * cap / short) for side in size)
    return width, height


def shrink(tile: Tile, size: tuple[int, int], out: np.ndarray, mode: str | None = None) -> None:
    """Write an image (width, height) that is cut by `tile` to `out` `(H,W,C)`, shrunk to its size.

    A pixel is what `Image.resize` makes of the whole image, but for rounding.

    Args:
        tile: returns what is in a box of the image, converted: images whose channels together are those of `out`.
        size: of the image.
        out: written in place; may be a view, such as a turned one.
        mode: each shrunk tile is converted to it; None: left as it is.
    """
    height, width = out.shape[:2]
    across, down = _spans(size[0], width), _spans(size[1], height)
    for top, bottom, low, high, from_row, to_row in down:
        for left, right, near, far, from_column, to_column in across:
            shape, box = (right - left, bottom - top), (from_column, from_row, to_column, to_row)
            images = tile((near, low, far, high))
            if (width, height) != size:
                images = [image.resize(shape, Image.Resampling.BILINEAR, box) for image in images]
            arrays = [np.asarray(image if mode is None else image.convert(mode)) for image in images]
            out[top:bottom, left:right] = np.concatenate([x.reshape(*x.shape[:2], -1) for x in arrays], -1)


def _spans(source: int, target: int) -> list[tuple[int, int, int, int, float, float]]:
    """Split an axis into (first, last) of the target, of the source, and where the former lie in the latter."""
    scale = source / target
    step, margin = max(1, int(SIDE / scale)), math.ceil(scale) + 1 if scale > 1 else 0
    spans = []
    for start in range(0, target, step):
        stop = min(start + step, target)
        low = max(0, math.floor(start * scale) - margin)
        high = min(source, math.ceil(stop * scale) + margin)
        spans.append((start, stop, low, high, start * scale - low, min(stop * scale, source) - low))
    return spans
