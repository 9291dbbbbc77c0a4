"""Images whose numbers are not 8 bits from 0 to 255: what range they span, and the pixels that a range makes."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from ssl_cli.data import tiles
from ssl_cli.errors import DataError

Range = tuple[float, float]
"""The numbers that become black and white."""
PIXEL: Final[dict[int, type[np.integer[Any]]]] = {8: np.uint8, 16: np.int16}
"""Type of pixels by their depth in bits: from 0, black, to its largest number, white."""
RGB = 3
LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in gray, of 65536: Pillow's."""
TAIL = 0.001
"""Share of an image's numbers at either end that its range leaves out: hot and dead pixels."""
LOOKED_AT = 2**18
"""Pixels, evenly spaced, from which an image's range is measured."""
UNREAL = 1e38
"""Floats from here on are marks of a missing value, such as -3.4e38."""
FULL: Final = (1, 255, 1023, 4095, 16383, 65535)
BYTES_A_NUMBER = 40
"""Bytes for each number that is looked at, or converted at once: double precision, masks, a sorted copy."""
AT_ONCE = 2**20
"""Numbers that are converted at once."""
_SHADE: Final[dict[int, type[np.number[Any]]]] = {8: np.uint8, 16: np.float32}
"""Type of shades by their depth: those of 16 bits are rounded once, after the image has been shrunk."""
_WIDENED = (np.arange(256) * (np.iinfo(np.int16).max / 255)).round().astype(np.int16)


@dataclass(frozen=True)
class Numbers:
    """An image as it was measured.

    Attributes:
        values: `(H,W,C)`, integers or floats of any width, with the opacity last.
        alpha: whether the last channel is the opacity, from 0 to the type's largest integer, or 1 of floats.
        colours: whether the first three channels are red, green and blue, whatever follows.
        inverted: whether the smallest number is white.
        hole: the number of pixels that were not measured; None: there is none. Others are NaN, infinite or `UNREAL`.
        window: the range that the file itself asks for.
        full: black and white of shades of more than 8 bits, as HEIC has them; like those of 8 bits, they are the same
            in any range.
    """

    values: np.ndarray
    alpha: bool = False
    colours: bool = False
    inverted: bool = False
    hole: float | None = None
    window: Range | None = None
    full: Range | None = None

    @property
    def kind(self) -> str:
        """The type of the numbers in words."""
        bits, kind = 8 * self.values.dtype.itemsize, self.values.dtype.kind
        bits = int(self.full[1]).bit_length() if self.full else bits
        return f"{'signed ' * (kind == 'i')}{bits}-bit {'floats' if kind == 'f' else 'numbers'}"

    def span(self) -> Range | None:
        """Return the range of this image alone, equal ends where all numbers are equal; None: no number is there."""
        if own := self.full or self.window:
            return own
        height, width, channels = self.values.shape
        step = max(1, math.ceil(math.sqrt(height * width / LOOKED_AT)))
        x = self.values[::step, ::step, : channels - self.alpha]
        x = x[self._measured(x)]
        if not x.size:
            return None
        k = int(TAIL * (x.size - 1))
        x = np.partition(x, (k, x.size - 1 - k))
        return float(x[k]), float(x[x.size - 1 - k])

    def extremes(self) -> Range | None:
        """Return the smallest and the largest number that was measured; None: there is none."""
        x = self.values[:, :, : self.values.shape[2] - self.alpha]
        known = x[self._measured(x)]
        return (float(known.min()), float(known.max())) if known.size else None

    def _measured(self, x: np.ndarray) -> np.ndarray:
        measured = np.ones(x.shape, bool)
        if x.dtype.kind == "f":
            measured = np.abs(x) < np.float64(UNREAL)  # which NaN is not, either
        return measured if self.hole is None else measured & (x != self.hole)

    def shades(self, limits: Range, box: tiles.Box | None = None, depth: int = 8) -> np.ndarray:
        """Return the image, or a box of it, `(H,W,C)` where `limits` are black and white; holes are black.

        As uint8, or of depth 16 as float32 from 0 to 32767; numbers of 8 bits stay uint8.
        """
        left, top, right, bottom = box or (0, 0, self.values.shape[1], self.values.shape[0])
        x = self.values[top:bottom, left:right]
        colours = x.shape[2] - self.alpha
        if x.dtype == np.uint8:
            return np.concatenate([255 - x[:, :, :colours], x[:, :, colours:]], -1) if self.inverted else x
        out = np.empty(x.shape, _SHADE[depth])
        if x.dtype.kind in "iu" and x.dtype.itemsize == 2 and x.size > 2**16:
            table = self._shade(np.arange(2**16, dtype=np.uint16).view(x.dtype.newbyteorder("=")), limits, depth)
            shade: Callable[[np.ndarray], np.ndarray] = lambda x: table[x.astype(x.dtype.newbyteorder("=")).view("u2")]  # noqa: E731
        else:
            shade = lambda x: self._shade(x, limits, depth)  # noqa: E731
        rows = max(1, AT_ONCE // max(1, x.shape[1] * x.shape[2]))
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            out[start : start + rows, :, :colours] = shade(part[:, :, :colours])
            if self.alpha:
                out[start : start + rows, :, colours:] = _opacity(part[:, :, colours:], depth)
        return out

    def _shade(self, x: np.ndarray, limits: Range, depth: int) -> np.ndarray:
        (low, high), white = limits, white_of(depth)
        measured = self._measured(x)
        shades = np.zeros(x.shape)
        np.subtract(x, float(low), out=shades, where=measured)
        shades *= white / (high - low)
        np.clip(shades, 0, white, out=shades)
        if depth == 8:
            shades.round(out=shades)
        if self.inverted:
            np.subtract(white, shades, out=shades)
        shades[~measured] = 0
        return shades.astype(_SHADE[depth])


@dataclass(frozen=True)
class Wide:
    """A file of numbers whose header was read: width and height, bytes that reading takes, and how to read it."""

    size: tuple[int, int]
    needed: int
    read: Callable[[], Numbers]
    orientation: int = 1


def white_of(depth: int) -> int:
    """Return the number that is white in pixels of this depth; 0 is black."""
    return int(np.iinfo(PIXEL[depth]).max)


def _opacity(x: np.ndarray, depth: int) -> np.ndarray:
    full, white = np.iinfo(x.dtype).max if x.dtype.kind in "iu" else 1.0, white_of(depth)
    shades = (np.nan_to_num(x.astype(np.float64)) * (white / full)).clip(0, white)
    found: np.ndarray = (shades.round() if depth == 8 else shades).astype(_SHADE[depth])
    return found


def widened(span: Range | None) -> Range:
    """Return a range (black, white) whose ends differ.

    Where all numbers are equal, black is 0, or the number if it is negative, and white the smallest full scale (255,
    4095, ...) that is not below it. None: as of zeros.
    """
    low, high = span or (0.0, 0.0)
    if high > low and math.isfinite(white_of(16) / (high - low)):
        return low, high
    return min(low, 0.0), float(next((top for top in FULL if high <= top), high))


def pixels_of(
    numbers: Numbers, channels: int, limits: Range | None, cap: int | None, orientation: int = 1, depth: int = 8
) -> np.ndarray:
    """Return an image, upright, as pixels `(H,W,channels)` of `depth` bits with a short side of at most `cap`.

    Args:
        numbers: the image; those of 8 bits are shades already.
        channels: to return; one and three are converted to one another, others are those of the file.
        limits: what is black and white; None: measured in this image.
        cap: see `tiles.shrunk_size`.
        orientation: as the file has it, of EXIF.
        depth: see `PIXEL`.

    Raises:
        DataError: the file has another number of channels.
    """
    numbers, on_white = _of_channels(numbers, channels)
    whole = numbers.values.dtype == np.uint8
    ends = numbers.full or limits or ((0.0, 255.0) if whole else widened(numbers.span()))
    height, width, count = numbers.values.shape
    kind = np.uint8 if whole else _SHADE[depth]

    def shades(box: tiles.Box | None) -> np.ndarray:
        found = numbers.shades(ends, box, depth)
        return _on_white(found) if on_white else found  # before it is shrunk: what is clear has no shade

    shrunk = shrink(shades, (width, height), count - on_white, cap, kind)
    return upright(in_depth(_converted(shrunk, channels), depth), orientation)


def in_depth(shades: np.ndarray, depth: int) -> np.ndarray:
    """Return shades `(H,W,C)` as pixels of this depth: those of 8 bits are widened for 16, floats rounded."""
    if shades.dtype == PIXEL[depth]:
        return shades
    return _WIDENED[shades] if shades.dtype == np.uint8 else shades.round().astype(PIXEL[depth])


def straight_alpha(values: np.ndarray) -> np.ndarray:
    """Divide colours by the opacity, the last channel, by which they are multiplied; integers keep their type."""
    values, whole = np.require(values, requirements="W"), values.dtype.kind != "f"
    full = np.iinfo(values.dtype).max if whole else 1
    for row in values:
        opacity = row[:, -1:].astype(np.float64)
        colours = row[:, :-1] * (full / np.where(opacity > 0, opacity, full))
        row[:, :-1] = np.minimum(colours.round(), full) if whole else colours
    return values


def _on_white(shades: np.ndarray) -> np.ndarray:
    """Lay shades whose last channel is the opacity on white; those of 8 bits are rounded."""
    laid, white = np.empty((*shades.shape[:2], shades.shape[2] - 1), shades.dtype), np.float32(white_of(16))
    for row, given in zip(laid, shades, strict=True):
        colours, opacity = given[:, :-1], given[:, -1:]
        if shades.dtype == np.uint8:
            opacity = opacity.astype(np.uint16)
            row[:] = (colours * opacity + 255 * (255 - opacity) + 127) // 255
        else:
            row[:] = white - (white - colours) * (opacity / white)
    return laid


def _converted(shades: np.ndarray, channels: int) -> np.ndarray:
    """Convert shades of gray to colours or the reverse, with or without an opacity; others are `channels` already."""
    count = shades.shape[2]
    if count == channels:
        return shades
    colours, opacity = np.split(shades, [RGB if count >= RGB else 1], 2)
    return np.concatenate([_gray(colours) if count >= RGB else colours.repeat(RGB, 2), opacity], 2)


def _gray(shades: np.ndarray) -> np.ndarray:
    """Convert shades `(H,W,3)` to gray `(H,W,1)`; those of 8 bits are rounded as Pillow does."""
    if shades.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(shades)).convert("L"))[:, :, None]
    gray: np.ndarray = shades @ (np.array(LUMA, np.float32)[:, None] / 2**16)
    return gray


def _of_channels(numbers: Numbers, channels: int) -> tuple[Numbers, bool]:
    """Select the channels that are converted to `channels`; return whether they end with an opacity."""
    count = numbers.values.shape[2]
    colours = count - numbers.alpha
    if channels not in (1, RGB):
        if count != channels and not (numbers.alpha and {count, channels} == {2, 4}):
            raise DataError(f"it has {count} channels, and data.channels is {channels}")
        return numbers, False
    if colours in (1, RGB):
        return numbers, numbers.alpha
    if numbers.colours and colours > RGB:
        return Numbers(numbers.values[:, :, :RGB], hole=numbers.hole, window=numbers.window, full=numbers.full), False
    raise DataError(f"it has {count} channels, and data.channels is {channels}")


def shrink(
    pixels: Callable[[tiles.Box | None], np.ndarray], size: tuple[int, int], count: int, cap: int | None,
    kind: type[np.number[Any]] = np.uint8,
) -> np.ndarray:  # fmt: skip
    """Shrink an image (width, height) of `count` channels to a short side of at most `cap`, `(H,W,C)`.

    Args:
        pixels: returns what is in a box of it, or the whole; a giant one is cut in boxes.
        size: of the image.
        count: of its channels.
        cap: see `tiles.shrunk_size`.
        kind: type of the pixels, uint8 or float32.
    """
    width, height = tiles.shrunk_size(size, cap)
    if (width, height) == size:
        return pixels(None)
    if math.prod(size) > tiles.GIANT:
        out = np.empty((height, width, count), kind)
        tiles.shrink(lambda box: _layers(pixels(box)), size, out)
        return out
    resized = [np.asarray(layer.resize((width, height), Image.Resampling.BILINEAR)) for layer in _layers(pixels(None))]
    return np.stack(resized, -1)


def _layers(x: np.ndarray) -> Iterator[Image.Image]:
    """Yield the channels of an array `(H,W,C)` as images."""
    return (Image.fromarray(np.ascontiguousarray(x[:, :, k])) for k in range(x.shape[2]))


def upright(x: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image `(H,W,C)` upright from the orientation that EXIF names."""
    if orientation in (5, 6, 7, 8):
        x = x.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.array(x[rows, columns], order="C") if orientation in range(2, 9) else np.require(x, None, ["C", "W"])
