"""Images as Python has them: paths, Pillow images, arrays and tensors, as one source."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ssl_cli.config.tree import DataSettings
from ssl_cli.data.decode import decode
from ssl_cli.data.numbers import RGB, Numbers, Range, pixels_of
from ssl_cli.errors import DataError, UsageError

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
Images = ImageLike | Iterable[ImageLike]
DEEP = ("I", "F", "I;16", "I;16B", "I;16L")
"""Pillow's modes of other than 8 bits."""
KINDS = "paths, Pillow images, arrays (H,W,C) or tensors (C,H,W)"


class GivenImages:
    """Serve the images that a caller gives, read as a run reads its files.

    Args:
        images: one image, several, or a batch: an array `(N,H,W,C)` or a tensor `(N,C,H,W)`.
        settings: channels and range of numbers of the run.

    Raises:
        UsageError: something that is no image.
    """

    name = "the images given"
    classes: tuple[str, ...] = ()
    skips_bad = False
    """The first one that cannot be read is an error: rows and images have the same order and number."""

    def __init__(self, images: Images, settings: DataSettings) -> None:
        self.images, self.settings = listed(images), settings
        self.labels = torch.full((len(self.images),), -1)

    def __len__(self) -> int:
        return len(self.images)

    def path(self, index: int) -> str:
        """Return the path of image `index`, or its place among those given."""
        image = self.images[index]
        return os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {index}"

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Return image `index`, `(C,H,W)` of the run's channels and depth, short side at most `cap`."""
        image, data = self.images[index], self.settings
        if isinstance(image, str | os.PathLike):
            return decode(Path(image), cap, channels=data.channels, value_range=data.value_range, depth=data.bits)
        if isinstance(image, Image.Image):
            numbers = _of_picture(image, data.channels)
        else:
            array = _channels_last(image) if isinstance(image, Tensor) else image
            numbers = Numbers(array if array.ndim == 3 else array[:, :, None], alpha=_has_opacity(array, data.channels))
        limits = _limits(numbers.values, data)
        return torch.from_numpy(pixels_of(numbers, data.channels, limits, cap, depth=data.bits)).permute(2, 0, 1)


def listed(images: Images) -> Sequence[ImageLike]:
    """Return the images one by one.

    Raises:
        UsageError: something that is no image.
    """
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        if images.ndim not in {2, 3, 4}:
            raise UsageError(f"Images of shape {tuple(images.shape)} cannot be encoded.", f"Give {KINDS}, or batches.")
        return list(images) if images.ndim == 4 else [images]
    if not isinstance(images, Iterable):
        raise UsageError(f"A {type(images).__name__} is no image.", f"Give {KINDS}.")
    found = list(images)
    for image in found:
        if not isinstance(image, str | os.PathLike | Image.Image | np.ndarray | Tensor):
            raise UsageError(f"A {type(image).__name__} is no image.", f"Give {KINDS}.")
        if isinstance(image, np.ndarray | Tensor) and image.ndim not in {2, 3}:
            raise UsageError(f"An image of shape {tuple(image.shape)} cannot be encoded.", f"Give {KINDS}.")
    return found


def _of_picture(picture: Image.Image, channels: int) -> Numbers:
    """Return the numbers of a Pillow image, upright, with its opacity where it has any."""
    if picture.mode in DEEP:
        return Numbers(np.asarray(picture)[:, :, None])
    upright = ImageOps.exif_transpose(picture)
    if channels not in (1, RGB):
        return Numbers(_with_axis(np.asarray(upright)))
    if upright.has_transparency_data:
        return Numbers(np.asarray(upright.convert("RGBA")), alpha=True, colours=True)
    return Numbers(_with_axis(np.asarray(upright if upright.mode == "L" else upright.convert("RGB"))))


def _with_axis(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 3 else array[:, :, None]


def _channels_last(image: Tensor) -> np.ndarray:
    image = image.detach().cpu()
    image = image.float() if image.dtype in {torch.bfloat16, torch.float16} else image
    array: np.ndarray = (image.permute(1, 2, 0) if image.ndim == 3 else image).numpy()
    return array


def _has_opacity(array: np.ndarray, channels: int) -> bool:
    return channels in (1, RGB) and array.ndim == 3 and array.shape[2] in (2, 4)


def _limits(values: np.ndarray, data: DataSettings) -> Range | None:
    """Return the numbers that are black and white in an image.

    Raises:
        DataError: numbers of other than 8 bits whose range the run does not know.
    """
    if values.dtype == np.uint8 or data.range != "auto":
        return data.value_range
    if values.dtype.kind != "f":
        raise DataError(f"its numbers are {values.dtype}; give uint8, or floats from 0 to 1")
    ends = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not 0 <= ends[0] <= ends[1] <= 1:
        raise DataError(f"its numbers are from {ends[0]:g} to {ends[1]:g}; give uint8, or floats from 0 to 1")
    return 0.0, 1.0
