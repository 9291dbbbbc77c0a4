"""Decode image files to uint8 `(C,H,W)`: upright, without transparency, with their aspect ratio.

By Pillow: torchvision's decoders are a fifth faster on photographs, but deprecated, and do not read all formats.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from ssl_cli.data import bands, tiles
from ssl_cli.data.decoding import DECODING
from ssl_cli.data.regular import open_regular
from ssl_cli.errors import DataError
from ssl_cli.names import shown

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM")
"""Formats that are opened; those that start other programs or are archives are not."""
MAX_PIXELS = 178_956_970
"""Pillow's own hard limit."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AS_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x[:, ::-1].swapaxes(0, 1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x[::-1].swapaxes(0, 1),
}
"""Views of an upright array as the file has it, by the orientation of the file."""
_WIDE = ("I", "F")
_RASTER = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Bytes a pixel of Pillow's raster by mode; 4 for others."""
_CONVERTED = {"1": 4, "L": 4, "RGB": 4, "CMYK": 4, "YCbCr": 4, "I;16": 24, "I": 32, "F": 32}
"""Further bytes a pixel where an image is converted as a whole, by mode; 16 for others."""
_DECODER = {"WEBP": 12, "AVIF": 24, "TIFF": 4}
"""Further bytes a pixel of the decoder, by format: canvases, planes, a strip or the turned raster."""
_TILES = 80 * 2**20
"""Bytes that the conversion of an image by tiles takes."""

# Pillow's warnings on odd files are not for the user; the limit on pixels is checked here.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(
    data: bytes | Path, cap: int | None = None, max_pixels: int = MAX_PIXELS, channels: int = bands.RGB
) -> Tensor:
    """Decode an image, given as bytes or path, to uint8 `(C,H,W)` with a short side of at most `cap`.

    Any file is converted to three channels (RGB) or one (gray); other numbers of channels are read by `bands`. In
    memory the channels come last.

    Raises:
        DataError: not an image, damaged or larger than `max_pixels`; the message is the reason, without the name.
    """
    try:
        with io.BytesIO(data) if isinstance(data, bytes) else open_regular(data) as file:
            return _tensor(_decode(file, cap, max_pixels, channels))
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError(f"it is not an image that can be read ({', '.join(FORMATS)})") from None
    except OSError as error:
        raise DataError(shown(error.strerror or str(error))) from error
    except Exception as error:  # decoders raise errors of any type on a damaged file
        raise DataError(f"it is damaged ({shown(str(error)) or type(error).__name__})") from error


def peak_bytes(width: int, height: int, mode: str, form: str = "") -> int:
    """Return the most bytes that decoding an image to a small one takes, for its mode and format as Pillow names them.

    A read that is larger than `DECODING.limit` is alone; all others together stay within it.
    """
    pixels = width * height
    each = _RASTER.get(mode[:4], 4) + _DECODER.get(form, 0)
    if pixels > tiles.GIANT:
        return pixels * each + _TILES
    return pixels * (each + _CONVERTED.get(mode[:4], 16))


def _decode(file: BinaryIO, cap: int | None, max_pixels: int, channels: int) -> np.ndarray:
    if file.read(len(bands.MAGIC)) == bands.MAGIC:
        file.seek(0)
        shape = bands.array_shape(file, channels, max_pixels)
        with DECODING.hold(math.prod(shape)):
            file.seek(0)
            return bands.capped(bands.read_array(file, channels, max_pixels), cap)
    file.seek(0)
    with Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise DataError(f"it has {width} x {height} pixels; at most {max_pixels} are read")
        orientation = _orientation(picture)
        scans = 2 * width * height * len(picture.getbands()) if _several_scans(picture) else 0
        if cap is not None and picture.format in ("JPEG", "MPO"):  # these decode faster at 1/2, 1/4 or 1/8
            scale = min(1.0, cap / min(width, height))
            picture.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
        mode = "RGBA" if "transparency" in picture.info else picture.mode
        result = math.prod(tiles.shrunk_size(picture.size, cap)) * channels
        needed = peak_bytes(*picture.size, mode, picture.format or "") + scans + result
        with DECODING.hold(needed), contextlib.closing(picture):  # which frees the raster now
            picture.load()
            if channels not in (1, bands.RGB):
                return bands.of_picture(picture, channels, cap)
            if math.prod(picture.size) > tiles.GIANT:
                return _by_tiles(picture, cap, channels, orientation)
            pixels = _capped(_rgb(picture), cap)
            if orientation in _UPRIGHT:
                pixels = pixels.transpose(_UPRIGHT[orientation])
            return np.array(pixels if channels == bands.RGB else pixels.convert("L"))


def _by_tiles(picture: Image.Image, cap: int | None, channels: int, orientation: int) -> np.ndarray:
    """Convert and shrink a decoded image without another copy of it, uint8 `(H,W,C)`."""
    limits = _limits_by_tiles(picture) if picture.mode in _WIDE else None
    width, height = tiles.shrunk_size(picture.size, cap)
    turned = orientation in (5, 6, 7, 8)
    upright = np.empty((*((width, height) if turned else (height, width)), channels), np.uint8)
    stored = _AS_STORED.get(orientation, _AS_STORED[1])(upright)
    mode = None if channels == bands.RGB else "L"
    tiles.shrink(lambda box: [_rgb(picture.crop(box), limits)], picture.size, stored, mode)
    return upright


def _tensor(pixels: np.ndarray) -> Tensor:
    """Return the pixels `(H,W,C)` as a tensor `(C,H,W)`, a view of the same memory.

    Note:
        Runs in a decode thread, so no torch operation is called: it would start threads of its own.
    """
    tensor = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None])
    return tensor.permute(2, 0, 1)


def _orientation(picture: Image.Image) -> int:
    if picture.format in ("TIFF", "AVIF"):  # Pillow applies the orientation of these itself
        return 1
    try:
        return int(Image.Image.getexif(picture).get(_ORIENTATION, 1))  # PNG's own method would decode the image first
    except Exception:  # a broken tag is no reason to lose the image
        return 1


def _several_scans(picture: Image.Image) -> bool:
    """Whether a JPEG's channels or frequencies come one after the other, so that all of it is in memory at once."""
    if not isinstance(picture, JpegImageFile):
        return False
    first = 6 + 2 * picture.layers  # bytes of the header of a first scan that has all channels
    position = picture.fp.seek(0, io.SEEK_CUR) if picture.fp else 0
    if "progressive" in picture.info or position < first or picture.fp is None:
        return True
    picture.fp.seek(position - first)
    header = picture.fp.read(first)
    return header[:3] != bytes([0, first, picture.layers])


def _rgb(picture: Image.Image, limits: tuple[float, float] | None = None) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _gray(np.asarray(picture) / 65535)
    if picture.mode in _WIDE:
        values = _finite(picture)
        low, high = limits or _limits(values.min(), values.max())
        return _gray((values - low) / (high - low))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _finite(picture: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)


def _limits(smallest: float, largest: float) -> tuple[float, float]:
    """Return what is black and what is white in an image of no standard range: 0 and 1 if all values are between."""
    if min(smallest, 0.0) == 0.0 and max(largest, 1.0) == 1.0:
        return 0.0, 1.0
    return smallest, max(largest, smallest + 1e-12, float(np.nextafter(smallest, np.inf)))


def _limits_by_tiles(picture: Image.Image) -> tuple[float, float]:
    found = [(part.min(), part.max()) for part in (_finite(picture.crop(box)) for box in tiles.boxes(picture.size))]
    return _limits(min(low for low, _ in found), max(high for _, high in found))


def _gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")


def _capped(picture: Image.Image, cap: int | None) -> Image.Image:
    size = tiles.shrunk_size(picture.size, cap)
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.BILINEAR)  # antialiased, as Pillow shrinks
