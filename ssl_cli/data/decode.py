"""Decode image files to uint8 `(C,H,W)`: upright, without transparency, with their aspect ratio.

By Pillow: torchvision's decoders are a fifth faster on photographs, but deprecated, and do not read all formats.
"""

import io
import math
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ssl_cli.data import bands
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
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file:
            return _decode(file, cap, max_pixels, channels)
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError(f"it is not an image that can be read ({', '.join(FORMATS)})") from None
    except OSError as error:
        raise DataError(shown(error.strerror or str(error))) from error
    except Exception as error:  # decoders raise errors of any type on a damaged file
        raise DataError(f"it is damaged ({shown(str(error)) or type(error).__name__})") from error


def _decode(file: BinaryIO, cap: int | None, max_pixels: int, channels: int) -> Tensor:
    if file.read(len(bands.MAGIC)) == bands.MAGIC:
        file.seek(0)
        return _tensor(bands.capped(bands.read_array(file, channels, max_pixels), cap))
    file.seek(0)
    with Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise DataError(f"it has {width} x {height} pixels; at most {max_pixels} are read")
        turn = _UPRIGHT.get(_orientation(picture))
        if cap is not None and picture.format in ("JPEG", "MPO"):  # these decode faster at 1/2, 1/4 or 1/8
            scale = min(1.0, cap / min(width, height))
            picture.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
        picture.load()
        if channels not in (1, bands.RGB):
            return _tensor(bands.of_picture(picture, channels, cap))
        pixels = _capped(_rgb(picture), cap)
    if turn is not None:
        pixels = pixels.transpose(turn)
    return _tensor(np.array(pixels if channels == bands.RGB else pixels.convert("L")))


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


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _gray(np.asarray(picture) / 65535)
    if picture.mode in ("I", "F"):  # of no standard range: 0 to 1 if all values are in it, else from minimum to maximum
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
        low, high = min(values.min(), 0.0), max(values.max(), 1.0)
        if (low, high) != (0.0, 1.0):
            low, high = values.min(), max(values.max(), values.min() + 1e-12)
        return _gray((values - low) / (high - low))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _gray(values: np.ndarray) -> Image.Image:
    return Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGB")


def _capped(picture: Image.Image, cap: int | None) -> Image.Image:
    short = min(picture.size)
    if cap is None or short <= cap:
        return picture
    width, height = (round(side * cap / short) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR)  # antialiased, as Pillow shrinks
