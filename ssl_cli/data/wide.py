"""Files of more than 8 bits a number: which they are, and their numbers as they are in the file."""

import io
import re
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from ssl_cli.data import dicom, heif, npy, tiff
from ssl_cli.data.extras import is_dicom, is_heif
from ssl_cli.data.numbers import Numbers, Wide
from ssl_cli.errors import DataError

HEADER = 132
"""Bytes by which a format is known."""
_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
_ANYMAPS = {b"P2": 1, b"P3": 3, b"P5": 1, b"P6": 3}
"""Channels of the formats of PBM's family that may have two bytes a number; P2 and P3 are text."""
_FLOAT_MAP = re.compile(rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?[\d.eE+-]{1,24})\s")
_LAYOUTS = {
    0: ("I;16", ("I;16B",), 1, False),
    2: ("RGB", ("RGB;16B", "RGB;16L"), 3, False),
    4: ("RGBA", ("RGBA",), 2, True),
    6: ("RGBA", ("RGBA;16B", "RGBA;16L"), 4, True),
}
"""By colour type of a PNG of 16 bits: Pillow's mode, raw modes for the high and the low bytes, channels, alpha."""


def find(file: BinaryIO, channels: int) -> Wide | None:
    """Return how to read a file, at its start, if its numbers are not 8 bits or Pillow cannot give all channels.

    None: Pillow reads it.

    Raises:
        DataError: its numbers are of a kind that is not read, or an extra is missing that reads it.
    """
    head = file.read(HEADER)
    file.seek(0)
    if head.startswith(npy.MAGIC):
        return npy.find(file, channels)
    if head[:4] in tiff.MAGIC:
        return tiff.find(file, channels)
    if head.startswith(_PNG) and head[24:25] == b"\x10" and len(head) > 25 and head[25] in _LAYOUTS:
        return _png(file, head[25])
    if head[:2] in _ANYMAPS:
        return _anymap(file, head[:2])
    if found := _FLOAT_MAP.match(head):
        return _float_map(file, found)
    if is_heif(head):
        return heif.find(file)
    if is_dicom(head):
        return dicom.find(file)
    return None


def orientation_of(getexif: Callable[[], Image.Exif]) -> int:
    """Return the orientation that EXIF names; 1 where there is none, or it is broken: no reason to lose the image."""
    try:
        return int(getexif().get(_ORIENTATION, 1))
    except Exception:  # decoders raise errors of any type
        return 1


def _opened(file: BinaryIO) -> ImageFile:
    file.seek(0)
    return Image.open(file, formats=["PNG", "PPM"])


def _png(file: BinaryIO, colour_type: int) -> Wide:
    with _opened(file) as picture:
        size = picture.size
        orientation = orientation_of(lambda: Image.Image.getexif(picture))  # a PNG's own method would decode it
    channels = _LAYOUTS[colour_type][2]
    needed = size[0] * size[1] * (8 + 4 * channels)  # Pillow's raster, and all numbers twice
    return Wide(size, needed, lambda: _read_png(file, colour_type), orientation)


def _read_png(file: BinaryIO, colour_type: int) -> Numbers:
    """Read a PNG of 16 bits, of which Pillow keeps the high bytes alone: once for these and once for the low ones."""
    mode, raws, channels, alpha = _LAYOUTS[colour_type]
    values: np.ndarray | None = None
    for raw in raws:
        with _opened(file) as picture:
            picture._mode = mode
            picture.tile = [tile._replace(args=raw) for tile in picture.tile]
            picture.load()
            part, clear = np.asarray(picture), picture.info.get("transparency")
        if len(raws) == 1:
            values = (part if mode == "I;16" else part.view(">u2")).reshape(*part.shape[:2], channels)
        elif values is None:
            values = part.astype(np.uint16)
            values <<= 8
        else:
            values |= part
    assert values is not None
    if clear is not None and not alpha:
        opaque = (values != np.array(clear, np.uint16)).any(-1, keepdims=True)
        return Numbers(np.concatenate([values, opaque * np.uint16(65535)], -1), alpha=True)
    return Numbers(values, alpha)


def _anymap(file: BinaryIO, magic: bytes) -> Wide | None:
    with _opened(file) as picture:
        size, start = picture.size, picture.tile[0].offset
        given = picture.tile[0].args
        top = given[-1] if isinstance(given, tuple) else 65535 if given == "I;16B" else 255
    if not isinstance(top, int) or top < 256:
        file.seek(0)
        return None
    shape = size[1], size[0], _ANYMAPS[magic]
    text = magic in (b"P2", b"P3")
    count = shape[0] * shape[1] * shape[2]
    needed = count * (80 if text else 2)
    return Wide(size, needed, lambda: Numbers(_read_anymap(file, start, count, text).reshape(shape)))


def _read_anymap(file: BinaryIO, start: int, count: int, text: bool) -> np.ndarray:
    longest = 16 * count if text else 2 * count  # a number of five digits is followed by a blank, and comments are rare
    length = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    data = file.read(min(longest, length))
    if text:
        words = re.sub(rb"#[^\n]*", b"", data).split(maxsplit=count)
        values = np.array(words[:count], dtype="S5").astype(np.uint16)
    else:
        values = np.frombuffer(data[: len(data) // 2 * 2], ">u2")
    if len(values) < count:
        raise DataError("it is damaged (it ends early)")
    return values


def _float_map(file: BinaryIO, found: re.Match[bytes]) -> Wide:
    """Read a header of PFM: floats of one channel (Pf) or three (PF), from the bottom line up."""
    size, channels = (int(found[2]), int(found[3])), 3 if found[1] == b"F" else 1
    count, order = size[0] * size[1] * channels, "<" if float(found[4]) < 0 else ">"

    def read() -> Numbers:
        if file.seek(0, io.SEEK_END) < found.end() + 4 * count:
            raise DataError("it is damaged (it ends early)")
        file.seek(found.end())
        values = np.frombuffer(file.read(4 * count), f"{order}f4")
        return Numbers(values.reshape(size[1], size[0], channels)[::-1])

    return Wide(size, 4 * count, read)
