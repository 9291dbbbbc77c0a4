"""Images with other than three channels: numpy arrays, TIFF pages, RGBA; and conversion of RGB to gray."""

from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

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


def read_array(file: BinaryIO, channels: int, max_pixels: int) -> np.ndarray:
    """Read a uint8 array `(H,W,C)` from a .npy file of shape `(H,W,C)`, `(C,H,W)`, or for one channel `(H,W)`.

    Raises:
        DataError: another type or shape, or too large; nothing is unpickled.
        ValueError: the file is damaged.
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
    """Read `channels` channels of an opened file, uint8 `(H,W,C)`: LA, RGBA, or a TIFF page each.

    Raises:
        DataError: the file has another number of channels.
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
    """Shrink an image `(H,W,C)` to a short side of at most `cap`."""
    height, width = x.shape[:2]
    short = min(height, width)
    if cap is None or short <= cap:
        return x
    size = (round(width * cap / short), round(height * cap / short))
    bands = [Image.fromarray(np.ascontiguousarray(x[:, :, k])) for k in range(x.shape[2])]
    return np.stack([np.array(band.resize(size, Image.Resampling.BILINEAR)) for band in bands], -1)
