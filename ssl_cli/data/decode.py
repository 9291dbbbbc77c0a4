"""Decode image files to pixels `(C,H,W)`: upright, without transparency, with their aspect ratio.

By Pillow: torchvision's decoders are a fifth faster on photographs, but deprecated, and do not read all formats. Files
of other than 8 bits, and of more channels than Pillow gives, are read by `wide`; a range makes pixels of their numbers.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from ssl_cli.data import bands, heif, tiff, tiles, wide
from ssl_cli.data.decoding import DECODING
from ssl_cli.data.extras import is_heif
from ssl_cli.data.numbers import AT_ONCE, BYTES_A_NUMBER, RGB, Numbers, Range, Wide, in_depth, pixels_of, upright
from ssl_cli.data.regular import open_regular
from ssl_cli.errors import DataError
from ssl_cli.names import shown

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM")
"""Formats that are opened; those that start other programs or are archives are not."""
DECODER = 3
"""Version of what follows: another one, as another Pillow, may give other pixels."""
MAX_PIXELS = 178_956_970
"""Pillow's own hard limit."""

_NUMBERS = ("I", "F", "I;16", "I;16B", "I;16L")
"""Pillow's modes of other than 8 bits, of files that `wide` leaves to it."""
_RASTER = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Bytes a pixel of Pillow's raster by mode; 4 for others."""
_CONVERTED = {"1": 4, "L": 4, "RGB": 4, "CMYK": 4, "YCbCr": 4, "I;16": 24, "I": 32, "F": 32}
"""Further bytes a pixel where an image is converted as a whole, by mode; 16 for others."""
_DECODER = {"WEBP": 12, "AVIF": 24, "TIFF": 4, "HEIF": heif.BYTES_A_PIXEL}
"""Further bytes a pixel of the decoder, by format: canvases, planes, a strip or the turned raster."""
_TILES = 80 * 2**20
"""Bytes that the conversion of an image by tiles takes."""
_SHADE_BYTES = {8: 1, 16: 4}
"""Bytes of a number while an image is converted and shrunk, by the depth in bits."""

Look = Callable[[Numbers | Image.Image], None]
"""Called with what a file holds before it is converted: numbers, or the picture that Pillow opened."""

# Pillow's warnings on odd files are not for the user; the limit on pixels is checked here.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(
    data: bytes | Path | BinaryIO,
    cap: int | None = None,
    max_pixels: int = MAX_PIXELS,
    channels: int = RGB,
    value_range: Range | None = None,
    look: Look | None = None,
    depth: int = 8,
) -> Tensor:
    """Decode an image, given as bytes, path or open file, to `(C,H,W)` with a short side of at most `cap`.

    Any file of colours or gray is converted to three channels (RGB) or one (gray); other numbers of channels are those
    of the file. In memory the channels come last. `value_range` holds the numbers that become black and white in files
    of other than 8 bits; None: they are measured in the image. `look` is called with what the file holds. Pixels are
    uint8, or of `depth` 16 int16: from 0, black, to the largest number of the type, white.

    Raises:
        DataError: not an image, damaged or larger than `max_pixels`; the message is the reason, without the name.
    """
    with reasons(), opened(data) as file:
        pixels = _decode(file, cap, max_pixels, channels, value_range, look or _ignored, depth)
        return _tensor(in_depth(pixels, depth))


def read_numbers(data: bytes | Path | BinaryIO, channels: int = RGB, max_pixels: int = MAX_PIXELS) -> Numbers | None:
    """Read the numbers of a file as they are in it; None: they have 8 bits, or Pillow reads the file.

    Raises:
        DataError: as `decode`.
    """
    with reasons(), opened(data) as file:
        found = wide.find(file, channels)
        if found is None:
            return None
        _require_size(found.size, max_pixels)
        with DECODING.hold(found.needed):
            return found.read()


def size_of(data: bytes | Path | BinaryIO, channels: int = RGB) -> tuple[int, int]:
    """Return the width and height of an image as it is stored, from its header.

    Raises:
        DataError: as `decode`.
    """
    with reasons(), opened(data) as file:
        found = wide.find(file, channels)
        if found is not None:
            return found.size
        file.seek(0)
        with _picture(file) as picture:
            return picture.size


def _ignored(found: Numbers | Image.Image) -> None:
    """Look at nothing."""


@contextlib.contextmanager
def reasons() -> Iterator[None]:
    """Convert whatever decoders raise to a `DataError`."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError(f"it is not an image that can be read ({', '.join(FORMATS)})") from None
    except OSError as error:
        if error.strerror is None:
            raise DataError(_damaged(error)) from error
        raise DataError(shown(error.strerror)) from error
    except Exception as error:  # decoders raise errors of any type on a damaged file
        raise DataError(_damaged(error)) from error


def _damaged(error: Exception) -> str:
    return f"it is damaged ({shown(str(error)) or type(error).__name__})"


def opened(data: bytes | Path | BinaryIO) -> contextlib.AbstractContextManager[BinaryIO]:
    """Open what `decode` takes, to be closed after use; errors as `open_regular`."""
    if isinstance(data, bytes):
        return io.BytesIO(data)
    return open_regular(data) if isinstance(data, Path) else contextlib.nullcontext(data)


def peak_bytes(width: int, height: int, mode: str, form: str = "") -> int:
    """Return the most bytes that decoding an image to a small one takes, for its mode and format as Pillow names them.

    A read that is larger than `DECODING.limit` is alone; all others together stay within it.
    """
    pixels = width * height
    each = _RASTER.get(mode[:4], 4) + _DECODER.get(form, 0)
    if pixels > tiles.GIANT:
        return pixels * each + _TILES
    return pixels * (each + _CONVERTED.get(mode[:4], 16))


def bytes_of_numbers(found: Wide, channels: int, depth: int = 8) -> int:
    """Return the most bytes that reading numbers and converting them to a small image takes."""
    pixels, each = math.prod(found.size), _SHADE_BYTES[depth]
    if pixels > tiles.GIANT:
        return found.needed + _TILES + (each - 1) * channels * tiles.SIDE**2
    return found.needed + pixels * (channels * each + 2 * (each - 1)) + AT_ONCE * BYTES_A_NUMBER


def _decode(
    file: BinaryIO, cap: int | None, max_pixels: int, channels: int, limits: Range | None, look: Look, depth: int
) -> np.ndarray:
    found = wide.find(file, channels)
    if found is None:
        file.seek(0)
        return _by_pillow(file, cap, max_pixels, channels, limits, look, depth)
    _require_size(found.size, max_pixels)
    result = math.prod(tiles.shrunk_size(found.size, cap)) * channels
    with DECODING.hold(bytes_of_numbers(found, channels, depth) + 2 * _SHADE_BYTES[depth] * result):
        numbers = found.read()
        look(numbers)
        return pixels_of(numbers, channels, limits, cap, found.orientation, depth)


def _by_pillow(
    file: BinaryIO, cap: int | None, max_pixels: int, channels: int, limits: Range | None, look: Look, depth: int
) -> np.ndarray:
    with _picture(file) as picture:
        _require_size(picture.size, max_pixels)
        look(picture)
        scans = 2 * math.prod(picture.size) * len(picture.getbands()) if _several_scans(picture) else 0
        if cap is not None and picture.format in ("JPEG", "MPO"):  # these decode faster at 1/2, 1/4 or 1/8
            scale = min(1.0, cap / min(picture.size))
            width, height = picture.size
            picture.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
        mode = "RGBA" if "transparency" in picture.info else picture.mode
        result = math.prod(tiles.shrunk_size(picture.size, cap)) * channels
        needed = peak_bytes(*picture.size, mode, picture.format or "") + scans + result
        with DECODING.hold(needed), contextlib.closing(picture):  # which frees the raster now
            picture.load()
            orientation = _orientation(picture)
            if channels not in (1, RGB):
                return upright(bands.of_picture(picture, channels, cap), orientation)
            if picture.mode in _NUMBERS:
                return pixels_of(Numbers(np.asarray(picture)[:, :, None]), channels, limits, cap, orientation, depth)
            if math.prod(picture.size) > tiles.GIANT:
                return _by_tiles(picture, cap, channels, orientation)
            pixels = _capped(_rgb(picture), cap)
            return upright(np.array(pixels if channels == RGB else pixels.convert("L")), orientation)


def _picture(file: BinaryIO) -> Image.Image:
    head = file.read(wide.HEADER)
    file.seek(0)
    if is_heif(head):
        return heif.opened(file)
    try:
        picture = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        if head[:4] in tiff.MAGIC:
            raise DataError(tiff.unread(file)) from None
        raise
    if picture.format == "TIFF":
        tiff.seek_main(picture)
    elif picture.format == "PNG" and picture.mode == "L" and isinstance(clear := picture.info.get("transparency"), int):
        picture.info["transparency"] = clear * {"L;2": 85, "L;4": 17}.get(str(picture.tile[0].args), 1)  # as its shades
    return picture


def _require_size(size: tuple[int, int], max_pixels: int) -> None:
    if not 0 < math.prod(size) <= max_pixels:
        raise DataError(f"it has {size[0]} x {size[1]} pixels; 1 to {max_pixels} are read")


def _by_tiles(picture: Image.Image, cap: int | None, channels: int, orientation: int) -> np.ndarray:
    """Convert and shrink a decoded image without another copy of it, uint8 `(H,W,C)`."""
    width, height = tiles.shrunk_size(picture.size, cap)
    out = np.empty((height, width, channels), np.uint8)
    mode = None if channels == RGB else "L"
    tiles.shrink(lambda box: [_rgb(picture.crop(box))], picture.size, out, mode)
    return upright(out, orientation)


def _tensor(pixels: np.ndarray) -> Tensor:
    """Return the pixels `(H,W,C)` as a tensor `(C,H,W)`, a view of the same memory.

    Note:
        Runs in a decode thread, so no torch operation is called: it would start threads of its own.
    """
    tensor = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None])
    return tensor.permute(2, 0, 1)


def _orientation(picture: Image.Image) -> int:
    """Return the orientation that `ImageOps.exif_transpose` would undo, of a loaded image."""
    if picture.format == "TIFF":  # which Pillow has turned
        return 1
    return wide.orientation_of(picture.getexif)


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


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _capped(picture: Image.Image, cap: int | None) -> Image.Image:
    size = tiles.shrunk_size(picture.size, cap)
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.BILINEAR)  # antialiased, as Pillow shrinks
