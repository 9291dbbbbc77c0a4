"""Make damaged images from whole ones, by number; as a program, decode those numbered START to STOP and report each."""

import io
import json
import re
import struct
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from ssl_cli import memory
from tests.data.files import anymap, png, tiff

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "NPY")
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def _saved(image: Image.Image, form: str, **given: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **given)
    return file.getvalue()


@cache
def whole(form: str) -> tuple[bytes, ...]:
    """Return undamaged files of a format, of several modes and compressions."""
    x = np.random.default_rng(0).integers(0, 256, (36, 48, 4), dtype=np.uint8)
    x[:18] //= 32
    rgba = Image.fromarray(x)
    rgb, gray = rgba.convert("RGB"), rgba.convert("L")
    palette = rgb.quantize(32)
    deep = Image.fromarray(x[:, :, 0].astype(np.uint16) * 257)
    real = Image.fromarray(x[:, :, 0].astype(np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    if form == "NPY":
        files = []
        floats = x[:, :, :3].astype(np.float32)
        for array in (x[:, :, :3], x.transpose(2, 0, 1)[:3], np.asfortranarray(x[:, :, :3]), floats):
            file = io.BytesIO()
            np.save(file, array)
            files.append(file.getvalue())
        return tuple(files)
    more: dict[str, list[tuple[Image.Image, dict[str, Any]]]] = {
        "JPEG": [(rgb, {"exif": exif}), (rgb, {"progressive": True}), (rgb.convert("CMYK"), {}), (gray, {})],
        "PNG": [
            (rgb, {"exif": exif}),
            (rgba, {}),
            (palette, {"transparency": bytes(range(32))}),
            (deep, {}),
            (gray, {}),
        ],
        "WEBP": [(rgb, {}), (rgba, {"lossless": True}), (rgb, {"save_all": True, "append_images": [rgb.rotate(90)]})],
        "BMP": [(rgb, {}), (palette, {}), (gray.convert("1"), {}), (rgba, {})],
        "GIF": [(palette, {}), (palette, {"save_all": True, "append_images": [palette.rotate(180)]}), (gray, {})],
        "TIFF": [
            *((rgb, {"compression": f"tiff_{name}"}) for name in ("lzw", "adobe_deflate", "jpeg")),
            (gray.convert("1"), {"compression": "group4"}),
            (gray, {"save_all": True, "append_images": [gray, gray], "tiffinfo": {274: 6}}),
            (real, {"compression": "packbits"}),
            (deep, {}),
            (rgb.convert("CMYK"), {}),
        ],
        "AVIF": [(rgb, {"speed": 10}), (rgba, {"speed": 10})],
        "PPM": [(rgb, {}), (gray, {}), (gray.convert("1"), {})],
    }
    files = [_saved(image, form, **given) for image, given in more[form]]
    wide = x[:, :, :3].astype(np.uint16) * 257
    if form == "TIFF":
        real3 = x[:, :, :3].astype(np.float32)
        files += [tiff(wide, tile=16, compression=8, predictor=2), tiff(real3, compression=8, predictor=3, rows=9)]
        files += [tiff(x, extra=(0,), planar=2, rows=5), tiff(*wide.transpose(2, 0, 1), big=True)]
        files += [tiff(wide, order=">", orientation=6), tiff(x[:, :, 0].astype(np.int16), photometric=0, nodata="0")]
    if form == "PNG":
        files += [png(wide, 2), png(wide[:, :, :2], 4)]
    if form == "PPM":
        files.append(b"P3 4 4 255\n" + b" ".join(b"%d" % (k * 5) for k in range(48)))
        files += [anymap(wide, 65535), anymap(wide[:, :, 0] >> 4, 4095), anymap(wide, 65535, text=True)]
    return tuple(files)


def flip_bits(data: bytearray, draw: np.random.Generator) -> None:
    for place in draw.integers(0, len(data), int(draw.choice([1, 2, 8, 64]))):
        data[place] ^= 1 << int(draw.integers(0, 8))


def cut_off(data: bytearray, draw: np.random.Generator) -> None:
    del data[int(draw.integers(0, len(data))) :]


def swap_chunks(data: bytearray, draw: np.random.Generator) -> None:
    first, second, third = sorted(int(k) for k in draw.integers(0, len(data), 3))
    data[first:third] = data[second:third] + data[first:second]


def repeat_chunk(data: bytearray, draw: np.random.Generator) -> None:
    start, stop = sorted(int(k) for k in draw.integers(0, len(data), 2))
    data[stop:stop] = data[start:stop] * int(draw.choice([1, 3, 50]))


def clear_chunk(data: bytearray, draw: np.random.Generator) -> None:
    start, stop = sorted(int(k) for k in draw.integers(0, len(data), 2))
    data[start:stop] = bytes([int(draw.choice([0, 255]))]) * (stop - start)


def set_fields(data: bytearray, draw: np.random.Generator) -> None:
    """Set numbers of one, two or four bytes to extremes, near the beginning, where headers are, or near the end."""
    for _ in range(int(draw.integers(1, 5))):
        size = int(draw.choice([1, 2, 4]))
        value = int(draw.choice(EXTREMES)) % (1 << 8 * size)
        reach = min(256, len(data) - size)
        start = int(draw.integers(0, reach)) if draw.random() < 0.8 else len(data) - size - int(draw.integers(0, reach))
        data[start : start + size] = value.to_bytes(size, "big" if draw.random() < 0.5 else "little")


def set_dimensions(data: bytearray, draw: np.random.Generator) -> None:
    """Set the width and height in the header to large or absurd ones, with a right checksum."""
    sizes = (0, 1, 13_000, 13_300, 16_383, 65_500, 65_535, 10**6, 2**31 - 1, 2**31, 2**32 - 1)
    width, height = (int(k) for k in draw.choice(sizes, 2))
    for old, new in ((48, width), (36, height)):
        for packing in ("<I", ">I", "<H", ">H"):
            limit = (1 << 8 * struct.calcsize(packing)) - 1
            for base in (0, 1):  # WebP has one less
                data[:] = data.replace(
                    struct.pack(packing, old - base), struct.pack(packing, min(max(new - base, 0), limit)), 2
                )
    if data.startswith(b"\x89PNG"):
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    if data[:1] == b"P":
        data[:] = re.sub(rb"^(P\d)\s+\d+\s+\d+", rb"\1 %d %d" % (width, height), bytes(data), count=1)
    if data.startswith(b"\x93NUMPY"):
        data[:] = re.sub(rb"\(\d+, \d+, \d+\)", b"(%d, %d, 3)" % (height, width), bytes(data), count=1)


MUTATIONS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    flip_bits, cut_off, swap_chunks, repeat_chunk, clear_chunk, set_fields, set_dimensions,
)  # fmt: skip


def mutated(number: int) -> tuple[str, bytes]:
    """Return the name of mutation and format, and the file, of a number: the same at every call."""
    draw = np.random.default_rng(number)
    form = FORMATS[number % len(FORMATS)]
    change = MUTATIONS[number // len(FORMATS) % len(MUTATIONS)]
    data = bytearray(draw.choice(np.array(whole(form), dtype=object)))
    change(data, draw)
    if draw.random() < 0.2 and data:
        flip_bits(data, draw)
    return f"{form} {change.__name__}", bytes(data)


def main(start: int, stop: int) -> None:
    """Print one line of JSON for each file: before it is decoded its number, then what came of it."""
    from ssl_cli.data.decode import decode
    from ssl_cli.errors import DataError

    for number in range(start, stop):
        name, data = mutated(number)
        sys.stdout.write(json.dumps({"number": number, "name": name}) + "\n")
        sys.stdout.flush()
        since, wrong, read = time.process_time(), "", False
        try:
            image = decode(data, 64, channels=3 if number % 5 else 4)
            read = image.dim() == 3 and image.numel() > 0
        except DataError as error:
            wrong = "" if error.message.isprintable() and error.message else "a message that cannot be printed"
        except BaseException as error:
            wrong = repr(error)
        seconds = time.process_time() - since
        peak = memory.peak(torch.device("cpu"))
        sys.stdout.write(json.dumps({"wrong": wrong, "read": read, "seconds": seconds, "peak": peak}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
