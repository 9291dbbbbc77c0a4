"""Images of other than three channels: numpy arrays, pages of a TIFF, colours with opacity; and gray of colours."""

from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.data.source import BatchedSource
from ssl_cli.errors import DataError

MAGIC = b"\x93NUMPY"
"""How a .npy file begins."""
RGB = 3
LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in gray, of 65536: Pillow's."""


class Gray:
    """A source of colour images in gray, `(1,H,W)`, as Pillow converts."""

    def __init__(self, source: BatchedSource) -> None:
        self.source = source
        self.name, self.classes, self.labels = source.name, source.classes, source.labels

    def __len__(self) -> int:
        return len(self.source)

    def path(self, index: int) -> str:
        """What to call image `index`."""
        return self.source.path(index)

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Image `index`, uint8 `(1,H,W)`."""
        return self.read_many(torch.tensor([index]))[0]

    def read_many(self, indices: Tensor) -> Tensor:
        """Images uint8 `(N,1,H,W)` of int64 indices `(N,)`."""
        red, green, blue = self.source.read_many(indices).int().unbind(1)
        gray = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 0x8000
        return (gray >> 16).to(torch.uint8)[:, None]


def in_channels(source: BatchedSource, channels: int) -> BatchedSource:
    """A source of colour images with so many channels.

    Raises:
        DataError: neither three nor one.
    """
    if channels == RGB:
        return source
    if channels == 1:
        return Gray(source)
    raise DataError(
        f"{source.name} has images of three channels, and data.channels is {channels}.",
        "Images of more channels are read from a folder: .npy, RGBA, or TIFF of as many pages.",
    )


def read_array(file: BinaryIO, channels: int, max_pixels: int) -> np.ndarray:
    """The uint8 array `(H,W,C)` in a .npy file of that form, `(C,H,W)`, or for one channel `(H,W)`.

    Raises:
        DataError: another type or form, or too large; nothing is unpickled.
        ValueError: it is damaged.
    """
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version, _ = np.lib.format.read_magic(file)
    if version not in read_header:
        raise DataError(f"it is a .npy file of version {version}; 1 and 2 are read")
    shape, _, dtype = read_header[version](file)
    if dtype != np.uint8:
        raise DataError(f"its numbers are {dtype}; uint8, from 0 to 255, is read")
    form: tuple[int, ...]
    if len(shape) == 2 and channels == 1:
        form = (0, 1)
    elif len(shape) == 3 and shape[2] == channels:
        form = (0, 1, 2)
    elif len(shape) == 3 and shape[0] == channels:
        form = (1, 2, 0)
    else:
        raise DataError(f"its shape is {shape}, and data.channels is {channels}")
    height, width = (shape[axis] for axis in form[:2])
    if not 0 < height * width <= max_pixels:
        raise DataError(f"it has {width} x {height} pixels; 1 to {max_pixels} are read")
    file.seek(0)
    array: np.ndarray = np.load(file, allow_pickle=False).transpose(form)
    return array.reshape(height, width, channels)


def of_picture(picture: Image.Image, channels: int, cap: int | None) -> np.ndarray:
    """Two, four or more channels of an opened file, uint8 `(H,W,C)`: colours with opacity, or a page each.

    Raises:
        DataError: it has not so many.
    """
    layers = {2: "LA", 4: "RGBA"}.get(channels)
    if layers and getattr(picture, "n_frames", 1) == 1 and picture.has_transparency_data:
        return capped(np.array(picture.convert(layers)), cap)
    pages = getattr(picture, "n_frames", 1)
    if picture.format != "TIFF" or pages != channels:
        found = f"{pages} pages" if pages > 1 else f"{len(picture.getbands())} channels"
        raise DataError(f"it has {found}, and data.channels is {channels}")
    page = []
    for k in range(pages):
        picture.seek(k)
        if picture.mode != "L":
            raise DataError(f"page {k + 1} is {picture.mode}; pages of 8 bits are read")
        page.append(np.array(picture))
    if len({each.shape for each in page}) > 1:
        raise DataError("its pages differ in size")
    return capped(np.stack(page, -1), cap)


def capped(x: np.ndarray, cap: int | None) -> np.ndarray:
    """The image `(H,W,C)`, its short side at most `cap`."""
    height, width = x.shape[:2]
    short = min(height, width)
    if cap is None or short <= cap:
        return x
    size = (round(width * cap / short), round(height * cap / short))
    bands = [Image.fromarray(np.ascontiguousarray(x[:, :, k])) for k in range(x.shape[2])]
    return np.stack([np.array(band.resize(size, Image.Resampling.BILINEAR)) for band in bands], -1)
