"""Images with other than three channels: numpy arrays, TIFF pages, RGBA; and conversion of RGB to gray."""

import io
import math
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.data import tiles
from ssl_cli.data.source import BatchedSource
from ssl_cli.errors import DataError

MAGIC = b"\x93NUMPY"
"""First bytes of a .npy file."""
RGB = 3
LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in gray, of 65536: Pillow's."""


class Gray:
    """Convert the images of a source to gray, `(1,H,W)`, as Pillow does."""

    def __init__(self, source: BatchedSource) -> None:
        self.source = source
        self.name, self.classes, self.labels = source.name, source.classes, source.labels

    def __len__(self) -> int:
        return len(self.source)

    def path(self, index: int) -> str:
        """Return the name of image `index`, for messages."""
        return self.source.path(index)

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Return image `index`, uint8 `(1,H,W)`."""
        return self.read_many(torch.tensor([index]))[0]

    def read_many(self, indices: Tensor) -> Tensor:
        """Return the images of int64 indices `(N,)`, uint8 `(N,1,H,W)`."""
        red, green, blue = self.source.read_many(indices).int().unbind(1)
        gray = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 0x8000
        return (gray >> 16).to(torch.uint8)[:, None]


def in_channels(source: BatchedSource, channels: int) -> BatchedSource:
    """Convert a source of RGB images to `channels`, 3 or 1.

    Raises:
        DataError: `channels` is neither.
    """
    if channels == RGB:
        return source
    if channels == 1:
        return Gray(source)
    raise DataError(
        f"{source.name} has images of three channels, and data.channels is {channels}.",
        "Images of more channels are read from a folder: .npy, RGBA, or TIFF of as many pages.",
    )


def array_shape(file: BinaryIO, channels: int, max_pixels: int) -> tuple[int, ...]:
    """Read the shape of a .npy file that holds an image: `(H,W,C)`, `(C,H,W)`, or for one channel `(H,W)`.

    Raises:
        DataError: another type or shape, too large, or less in the file.
        ValueError: the file is damaged.
    """
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version, _ = np.lib.format.read_magic(file)
    if version not in read_header:
        raise DataError(f"it is a .npy file of version {version}; 1 and 2 are read")
    shape, _, dtype = read_header[version](file)
    if dtype != np.uint8:
        raise DataError(f"its numbers are {dtype}; uint8, from 0 to 255, is read")
    height, width = (shape[axis] for axis in _axes(shape, channels)[:2])
    if not 0 < height * width <= max_pixels:
        raise DataError(f"it has {width} x {height} pixels; 1 to {max_pixels} are read")
    start = file.seek(0, io.SEEK_CUR)
    if file.seek(0, io.SEEK_END) - start < height * width * channels:  # before memory is allocated for them
        raise DataError("it is damaged (it ends early)")
    return tuple(shape)


def _axes(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Return which axes are height, width and channels."""
    if len(shape) == 2 and channels == 1:
        return 0, 1
    if len(shape) == 3 and shape[2] == channels:
        return 0, 1, 2
    if len(shape) == 3 and shape[0] == channels:
        return 1, 2, 0
    raise DataError(f"its shape is {shape}, and data.channels is {channels}")


def read_array(file: BinaryIO, channels: int, max_pixels: int) -> np.ndarray:
    """Read a uint8 array `(H,W,C)` from a .npy file, see `array_shape`; nothing is unpickled."""
    start = file.seek(0, io.SEEK_CUR)
    axes = _axes(array_shape(file, channels, max_pixels), channels)
    file.seek(start)
    array: np.ndarray = np.load(file, allow_pickle=False).transpose(axes)
    return array.reshape(*array.shape[:2], channels)


def of_picture(picture: Image.Image, channels: int, cap: int | None) -> np.ndarray:
    """Read `channels` channels of an opened file, uint8 `(H,W,C)`: LA, RGBA, or a TIFF page each.

    Raises:
        DataError: the file has another number of channels.
    """
    layers = {2: "LA", 4: "RGBA"}.get(channels)
    pages = getattr(picture, "n_frames", 1)
    if layers and pages == 1 and picture.has_transparency_data:
        if math.prod(picture.size) > tiles.GIANT:
            return _shrunk(lambda box: picture.crop(box).convert(layers).split(), picture.size, channels, cap)
        return capped(np.array(picture.convert(layers)), cap)
    if picture.format != "TIFF" or pages != channels:
        found = f"{pages} pages" if pages > 1 else f"{len(picture.getbands())} channels"
        raise DataError(f"it has {found}, and data.channels is {channels}")
    size = picture.size
    width, height = tiles.shrunk_size(size, cap)
    whole = np.empty((height, width, pages), np.uint8)
    for k in range(pages):
        picture.seek(k)
        if picture.mode != "L":
            raise DataError(f"page {k + 1} is {picture.mode}; pages of 8 bits are read")
        if picture.size != size:
            raise DataError("its pages differ in size")
        whole[:, :, k] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return whole


def capped(x: np.ndarray, cap: int | None) -> np.ndarray:
    """Shrink an image `(H,W,C)` to a short side of at most `cap`."""
    height, width, channels = x.shape
    size = tiles.shrunk_size((width, height), cap)
    if size == (width, height):
        return x
    if height * width > tiles.GIANT:
        return _shrunk(lambda box: _layers(x, box), (width, height), channels, cap)
    return np.stack([np.array(each.resize(size, Image.Resampling.BILINEAR)) for each in _layers(x)], -1)


def _layers(x: np.ndarray, box: tiles.Box | None = None) -> Iterator[Image.Image]:
    """Yield the channels of an array `(H,W,C)`, or of a box of it, as images."""
    left, top, right, bottom = box or (0, 0, x.shape[1], x.shape[0])
    return (Image.fromarray(np.ascontiguousarray(x[top:bottom, left:right, k])) for k in range(x.shape[2]))


def _shrunk(tile: tiles.Tile, size: tuple[int, int], channels: int, cap: int | None) -> np.ndarray:
    width, height = tiles.shrunk_size(size, cap)
    out = np.empty((height, width, channels), np.uint8)
    tiles.shrink(tile, size, out)
    return out
