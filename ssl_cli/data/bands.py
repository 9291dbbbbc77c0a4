"""Images with other than three channels: RGBA and TIFF pages that Pillow reads; and conversion of RGB to gray."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.data import tiles
from ssl_cli.data.numbers import LUMA, RGB, shrink
from ssl_cli.data.source import BatchedSource
from ssl_cli.errors import DataError


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
        "Images of more channels are read from a folder: .npy, RGBA, or TIFF of as many channels or pages.",
    )


def of_picture(picture: Image.Image, channels: int, cap: int | None) -> np.ndarray:
    """Read `channels` channels of an opened file, uint8 `(H,W,C)`: LA, RGBA, or a TIFF page each.

    Raises:
        DataError: the file has another number of channels.
    """
    layers = {2: "LA", 4: "RGBA"}.get(channels, "")
    pages = getattr(picture, "n_frames", 1)
    if layers and pages == 1 and picture.has_transparency_data:
        return shrink(lambda box: np.array(_part(picture, box).convert(layers)), picture.size, channels, cap)
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


def _part(picture: Image.Image, box: tiles.Box | None) -> Image.Image:
    return picture if box is None else picture.crop(box)
