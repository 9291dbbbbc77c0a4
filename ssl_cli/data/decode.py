"""From a file's bytes to pixels: uint8 `(3,H,W)`, upright, opaque, aspect kept."""

import io
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F
from torchvision.io import ImageReadMode, decode_image

from ssl_cli.data.names import shown
from ssl_cli.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM")
"""What is opened at all; formats that start other programs or hide archives are not."""
MAX_PIXELS = 178_956_970
"""Pillow's own hard limit."""

_FAST = {("JPEG", "RGB"), ("JPEG", "L"), ("MPO", "RGB"), ("PNG", "RGB"), ("PNG", "L"), ("WEBP", "RGB")}
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

# What Pillow finds odd in a file is the file's affair, not a line on the user's screen; pixels are counted here.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(data: bytes | Path, cap: int | None = None, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The image in these bytes, or in the file of this path, as uint8 `(3,H,W)`; the short side is at most `cap`.

    Raises:
        DataError: not an image, damaged or larger than `max_pixels`; the message is the reason, without the name.
    """
    try:
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file:
            return _capped(_decode(file, cap, max_pixels), cap)
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError(f"it is not an image that can be read ({', '.join(FORMATS)})") from None
    except OSError as error:
        raise DataError(shown(error.strerror or str(error))) from error
    except Exception as error:  # a damaged file makes decoders fail in any way they like
        raise DataError(f"it is damaged ({shown(str(error)) or type(error).__name__})") from error


def _decode(file: BinaryIO, cap: int | None, max_pixels: int) -> Tensor:
    with Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > max_pixels:
            raise DataError(f"it has {width} x {height} pixels; at most {max_pixels} are read")
        turn = _UPRIGHT.get(_orientation(picture))
        shrinks = picture.format in ("JPEG", "MPO") and cap is not None and min(width, height) >= 2 * cap
        plain = not picture.has_transparency_data and not getattr(picture, "is_animated", False)
        if (picture.format, picture.mode) in _FAST and plain and turn is None and not shrinks:
            fast = _fast(file)
            if fast is not None:
                return fast
            file.seek(0)
        if shrinks and cap is not None:
            scale = cap / min(width, height)
            picture.draft(None, (round(width * scale), round(height * scale)))  # a JPEG decodes at 1/2, 1/4, 1/8
        picture.load()
        rgb = _rgb(picture)
    if turn is not None:
        rgb = rgb.transpose(turn)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def _fast(file: BinaryIO) -> Tensor | None:
    """The whole file by torchvision, or None where it cannot or finds more than 8 bits."""
    file.seek(0)
    try:
        image = decode_image(torch.frombuffer(bytearray(file.read()), dtype=torch.uint8), ImageReadMode.RGB)
    except RuntimeError:
        return None
    return image if image.dtype == torch.uint8 and image.dim() == 3 else None


def _orientation(picture: Image.Image) -> int:
    if picture.format in ("TIFF", "AVIF"):  # these Pillow turns by itself
        return 1
    try:
        return int(Image.Image.getexif(picture).get(_ORIENTATION, 1))  # PNG's own would decode the image first
    except Exception:  # a broken tag is no reason to lose the image
        return 1


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return _gray(np.asarray(picture) / 65535)
    if picture.mode in ("I", "F"):  # no range is agreed on: 0 to 1 where it fits, else from darkest to brightest
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
        low, high = min(values.min(), 0.0), max(values.max(), 1.0)
        if (low, high) != (0.0, 1.0):
            low, high = values.min(), max(values.max(), values.min() + 1e-12)
        return _gray((values - low) / (high - low))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def _gray(share: np.ndarray) -> Image.Image:
    return Image.fromarray((share * 255).round().astype(np.uint8)).convert("RGB")


def _capped(image: Tensor, cap: int | None) -> Tensor:
    height, width = image.shape[1:]
    short = min(height, width)
    if cap is None or short <= cap:
        return image
    size = [round(height * cap / short), round(width * cap / short)]
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
