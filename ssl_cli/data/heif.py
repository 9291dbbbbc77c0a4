"""HEIC and HEIF images by libheif, which turns them upright."""

import math
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ssl_cli.data.extras import require
from ssl_cli.data.numbers import Numbers, Wide, straight_alpha

BYTES_A_PIXEL = 24
"""Bytes that decoding takes for each pixel: planes, their colours and a copy."""


def opened(file: BinaryIO) -> Image.Image:
    """Open the main image of a file, whose pixels are decoded when it is loaded.

    Raises:
        DataError: the extra is missing.
    """
    picture: Image.Image = _library().HeifImageFile(file)
    return picture


def find(file: BinaryIO) -> Wide | None:
    """Return how to read the main image of a file, at its start; None: it has 8 bits.

    Raises:
        DataError: the extra is missing.
    """
    picture = _library().open_heif(file, convert_hdr_to_8bit=False)
    bits = picture.info["bit_depth"]
    if bits <= 8:
        return None
    return Wide(picture.size, math.prod(picture.size) * 2 * BYTES_A_PIXEL, lambda: _read(picture, bits))


def _read(picture: Any, bits: int) -> Numbers:
    """Read shades of more than 8 bits, which libheif gives as the high bits of 16."""
    values = np.asarray(picture)
    values = values[:, :, None] if values.ndim == 2 else values
    values = straight_alpha(values) if picture.premultiplied_alpha else values.copy()
    values >>= 16 - bits
    if picture.has_alpha:
        values[:, :, -1] = (values[:, :, -1] * (65535 / (2**bits - 1))).round()
    return Numbers(values, alpha=picture.has_alpha, colours=True, full=(0.0, 2.0**bits - 1))


def _library() -> Any:
    return require("pillow_heif", "heic", "a HEIC image")
