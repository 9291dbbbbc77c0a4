"""Decode an image as a whole, in the plainest way: what the decoder must return for every ordinary image."""

import io
import math

import numpy as np
from PIL import Image

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_whole(data: bytes, cap: int | None, channels: int = 3) -> np.ndarray:
    """Return uint8 `(C,H,W)`."""
    if data.startswith(b"\x93NUMPY"):
        x = np.load(io.BytesIO(data))
        x = x[:, :, None] if x.ndim == 2 else x
        return of_layers(x if x.shape[2] == channels else x.transpose(1, 2, 0), cap).transpose(2, 0, 1)
    with Image.open(io.BytesIO(data)) as picture:
        turn = None if picture.format == "TIFF" else TURNS.get(picture.getexif().get(0x0112, 1))
    with Image.open(io.BytesIO(data)) as picture:
        if cap is not None and picture.format in ("JPEG", "MPO"):
            scale = min(1.0, cap / min(picture.size))
            picture.draft(None, (math.ceil(picture.size[0] * scale), math.ceil(picture.size[1] * scale)))
        picture.load()
        if channels in (2, 4) and getattr(picture, "n_frames", 1) == 1:
            return of_layers(np.array(picture.convert({2: "LA", 4: "RGBA"}[channels])), cap).transpose(2, 0, 1)
        if channels not in (1, 3):
            pages = []
            for k in range(channels):
                picture.seek(k)
                pages.append(np.array(picture))
            return of_layers(np.stack(pages, -1), cap).transpose(2, 0, 1)
        pixels = in_colour(picture)
    if cap is not None and min(pixels.size) > cap:
        short = min(pixels.size)
        pixels = pixels.resize(
            (round(pixels.size[0] * cap / short), round(pixels.size[1] * cap / short)), Image.Resampling.BILINEAR
        )
    pixels = pixels if turn is None else pixels.transpose(turn)
    x = np.array(pixels if channels == 3 else pixels.convert("L"))
    return (x if x.ndim == 3 else x[:, :, None]).transpose(2, 0, 1)


def in_colour(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        return gray(np.asarray(picture, dtype=np.float64))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB")


def gray(values: np.ndarray) -> Image.Image:
    """Black and white are the numbers that a thousandth is below and above; what is not finite is black."""
    found = sorted(values[np.isfinite(values)].tolist())
    cut = int(0.001 * (len(found) - 1))
    low, high = found[cut], found[len(found) - 1 - cut]
    if low == high:
        low, high = min(low, 0.0), next((top for top in (1, 255, 1023, 4095, 16383, 65535) if high <= top), high)
    with np.errstate(invalid="ignore"):
        shades = ((values - low) * (255 / (high - low))).clip(0, 255).round()
    shades[~np.isfinite(values)] = 0
    return Image.fromarray(shades.astype(np.uint8)).convert("RGB")


def of_layers(x: np.ndarray, cap: int | None) -> np.ndarray:
    height, width = x.shape[:2]
    short = min(height, width)
    if cap is None or short <= cap:
        return x
    size = (round(width * cap / short), round(height * cap / short))
    layers = [Image.fromarray(np.ascontiguousarray(x[:, :, k])) for k in range(x.shape[2])]
    return np.stack([np.array(layer.resize(size, Image.Resampling.BILINEAR)) for layer in layers], -1)
