"""HEIC and HEIF images by libheif, which turns them upright."""

from typing import BinaryIO

from PIL import Image

from ssl_cli.data.extras import require

_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
BYTES_A_PIXEL = 24
"""Bytes that decoding takes for each pixel: planes, their colours and a copy."""


def is_heif(head: bytes) -> bool:
    """Whether a file begins with `head` as HEIF files do, and is no AVIF."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS and b"avif" not in head[12:64]


def opened(file: BinaryIO) -> Image.Image:
    """Open the main image of a file, whose pixels are decoded when it is loaded.

    Raises:
        DataError: the extra is missing.
    """
    pillow_heif = require("pillow_heif", "heic", "a HEIC image")
    picture: Image.Image = pillow_heif.HeifImageFile(file)
    return picture
