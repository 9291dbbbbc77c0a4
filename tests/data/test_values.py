"""Fifty files of numbers of every kind: which are read, and as what, by numpy alone; which are refused, and why."""

import io
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ssl_cli.data.decode import decode, read_numbers
from ssl_cli.errors import DataError
from tests.data.files import anymap, chunk, npy, png, tiff

W, H = 64, 48
RAMP = np.tile(np.linspace(0, 1, W), (H, 1))
RGB = np.stack([RAMP, RAMP * 0.5, 1 - RAMP], -1)
BANDS = np.stack([RAMP * (k + 1) / 5 for k in range(5)], -1)
Range = tuple[float, float] | None


def shades(x: np.ndarray, low: float, high: float) -> np.ndarray:
    found: np.ndarray = ((x.astype(np.float64) - low) / (high - low) * 255).clip(0, 255).round()
    return found


def whole(x: np.ndarray, top: float, kind: str = "u2") -> np.ndarray:
    found: np.ndarray = (x * top).round().astype(kind)
    return found


def gray(bits: int) -> np.ndarray:
    return whole(RAMP, 2**bits - 1)


def holed(bad: float, kind: str = "f4") -> np.ndarray:
    x = (200 + RAMP * 100).astype(kind)
    x[:4, :4] = bad
    return x


def hole(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[:4, :4] = 0
    return x


def pfm(x: np.ndarray) -> bytes:
    return b"Pf\n%d %d\n-1.0\n" % (x.shape[1], x.shape[0]) + x[::-1].astype("<f4").tobytes()


def saved(image: Image.Image, form: str, **given: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **given)
    return file.getvalue()


def on_white(x: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    found: np.ndarray = x * alpha + 255 * (1 - alpha)
    return found


def without_strip(data: bytes) -> bytes:
    """A TIFF of strips of 12 rows whose second one was never written."""
    with Image.open(io.BytesIO(data)) as picture:
        places = struct.pack("<4I", *picture.tag_v2[273]), struct.pack("<4I", *picture.tag_v2[279])  # type: ignore[attr-defined]
    for place in places:
        data = data.replace(place, place[:4] + bytes(4) + place[8:])
    return data


def gone(x: np.ndarray, shade: int = 0) -> np.ndarray:
    x = x.copy()
    x[12:24] = shade
    return x


def clear(x: np.ndarray, top: int, kind: str) -> np.ndarray:
    """Colours multiplied by an opacity that grows from row to row, and the opacity."""
    return whole(np.concatenate([x * FADING[:, :, None], FADING[:, :, None]], -1), top, kind)


def pfm3(x: np.ndarray) -> bytes:
    return b"PF\n%d %d\n1.0\n" % (x.shape[1], x.shape[0]) + x[::-1].astype(">f4").tobytes()


FADING = np.tile(np.linspace(0, 255, H).round()[:, None] / 255, (1, W))
FADED = np.concatenate([RAMP[:, :, None], FADING[:, :, None]], -1)
HALF = np.full((H, W), 32768, np.uint16)
HALF_OF_ONE = 32768 / 65535
GRAY = shades(RAMP, 0, 1)
COLOUR = shades(RGB, 0, 1)
FIVE = shades(BANDS, 0, 1)
U16 = whole(RGB, 65535)
CLEAR = U16[0, 0]
EIGHT = whole(RGB, 255, "u1")
FIVE8 = whole(BANDS, 255, "u1")
SMALL = whole(RAMP, 1000)
ONE: Range = (0, 4095)

PALETTE = [*range(65536), *range(65535, -1, -1), *[0] * 65536]
PALETTE8 = [*range(0, 65536, 257), *range(65535, -1, -257), *[0] * 256]

Case = tuple[Callable[[], bytes], int, Range, np.ndarray]
READ: dict[str, Case] = {
    **{f"tiff, {bits} bits in 16": (partial(tiff, gray(bits)), 3, None, GRAY) for bits in (8, 10, 12, 14, 16)},
    **{f"png, {bits} bits in 16": (partial(png, gray(bits), 0), 3, None, GRAY) for bits in (10, 12, 16)},
    **{f"pgm, {bits} bits in 16": (partial(anymap, gray(bits), 2**bits - 1), 3, None, GRAY)
       for bits in (10, 12, 16)},
    "tiff in a range": (lambda: tiff(SMALL), 1, ONE, shades(SMALL, 0, 4095)),
    "png in a range": (lambda: png(SMALL, 0), 1, ONE, shades(SMALL, 0, 4095)),
    "pgm in a range": (lambda: anymap(SMALL, 1000), 1, ONE, shades(SMALL, 0, 4095)),
    "pgm as text in a range": (lambda: anymap(SMALL, 1000, text=True), 1, ONE, shades(SMALL, 0, 4095)),
    "npy in a range": (lambda: npy(SMALL), 1, ONE, shades(SMALL, 0, 4095)),
    "tiff beyond a range": (lambda: tiff(gray(14)), 1, ONE, shades(gray(14), 0, 4095)),
    "8 bits stay in any range": (lambda: saved(Image.fromarray(EIGHT), "PNG"), 3, ONE, EIGHT),
    "8-bit npy stays in any range": (lambda: npy(EIGHT), 3, ONE, EIGHT),
    "white is zero, 8 bits": (lambda: tiff(whole(RAMP, 255, "u1"), photometric=0), 3, None, 255 - GRAY),
    "white is zero, 16 bits": (lambda: tiff(gray(16), photometric=0), 3, None, 255 - GRAY),
    "white is zero, floats": (lambda: tiff(RAMP.astype("f4"), photometric=0), 3, None, 255 - GRAY),
    "white is zero in a range": (lambda: tiff(SMALL, photometric=0), 1, ONE, 255 - shades(SMALL, 0, 4095)),
    "signed 16 bits": (lambda: tiff((RAMP * 4096 - 1024).round().astype("i2")), 3, None, GRAY),
    "signed 8 bits": (lambda: tiff((RAMP * 200 - 100).round().astype("i1")), 3, None, GRAY),
    "unsigned 32 bits": (lambda: tiff((RAMP * (2**32 - 1)).astype("u4")), 3, None, GRAY),
    "signed 32 bits": (lambda: tiff((RAMP * 2**31 - 2**30).astype("i4")), 3, None, GRAY),
    "64 bits": (lambda: tiff((RAMP * 2**50).astype("u8")), 3, None, GRAY),
    "floats of 16 bits": (lambda: tiff(RAMP.astype("f2")), 3, None, GRAY),
    "floats of 32 bits": (lambda: tiff((200 + RAMP * 100).astype("f4")), 3, None, GRAY),
    "floats of 64 bits": (lambda: tiff(RAMP.astype("f8") * 1e6 + 1e9), 3, None, GRAY),
    "floats from 0 to 0.2 in a range": (lambda: tiff((RAMP / 5).astype("f4")), 1, (0, 1), shades(RAMP / 5, 0, 1)),
    "floats as pfm": (lambda: pfm(RAMP * 9), 3, None, GRAY),
    "colours as floats": (lambda: tiff(RGB.astype("f4")), 3, None, COLOUR),
    "colours as floats, to gray": (lambda: tiff(np.stack([RAMP] * 3, -1).astype("f4")), 1, None, GRAY),
    "colours of 12 bits in 16, tiff": (lambda: tiff(whole(RGB, 4095)), 3, None, COLOUR),
    "colours of 12 bits in 16, png": (lambda: png(whole(RGB, 4095), 2), 3, None, COLOUR),
    "colours of 12 bits in 16, ppm": (lambda: anymap(whole(RGB, 4095), 4095), 3, None, COLOUR),
    "colours of 12 bits in 16, text": (lambda: anymap(whole(RGB, 4095), 4095, text=True), 3, None, COLOUR),
    "gray and alpha of 16 bits, png": (lambda: png(np.stack([gray(16), HALF], -1), 4), 3, None,
                                       on_white(GRAY, np.full((H, W), HALF_OF_ONE))),
    "colours and alpha of 16 bits, png": (lambda: png(np.concatenate([U16, HALF[:, :, None]], -1), 6), 3, None,
                                          on_white(COLOUR, np.full((H, W, 1), HALF_OF_ONE))),
    "colours and alpha of 16 bits, tiff": (lambda: tiff(np.concatenate([U16, HALF[:, :, None]], -1), extra=(2,)), 3,
                                           None, on_white(COLOUR, np.full((H, W, 1), HALF_OF_ONE))),
    "a clear shade of 16 bits, png": (lambda: png(gray(16), 0, more=chunk(b"tRNS", b"\0\0")), 3, None,
                                      np.where(gray(16) == 0, 255, GRAY)),
    "a clear colour of 16 bits, png": (lambda: png(U16, 2, more=chunk(b"tRNS", CLEAR.astype(">u2").tobytes())), 3,
                                       None, np.where((CLEAR == U16).all(-1, keepdims=True), 255, COLOUR)),
    "alpha as a fourth channel": (lambda: png(np.concatenate([U16, HALF[:, :, None]], -1), 6), 4, None,
                                  np.concatenate([COLOUR, np.full((H, W, 1), 128)], -1)),
    "a hole: nodata": (lambda: tiff(holed(-9999), nodata="-9999"), 3, None, hole(GRAY)),
    "a hole: nodata, whole numbers": (lambda: tiff(holed(0, "u2"), nodata="0"), 3, None,
                                      hole(shades(holed(200, "u2"), 200, 300))),
    "a hole: NaN": (lambda: tiff(holed(np.nan)), 3, None, hole(GRAY)),
    "a hole: infinity": (lambda: tiff(holed(np.inf)), 3, None, hole(GRAY)),
    "a hole: the lowest float": (lambda: tiff(holed(-3.4028235e38), nodata="-3.4028235e38"), 3, None, hole(GRAY)),
    "a hole: the lowest float, untagged": (lambda: tiff(holed(-3.4028235e38)), 3, None, hole(GRAY)),
    "a hole: NaN in npy": (lambda: npy(holed(np.nan)), 1, None, hole(GRAY)),
    "four channels side by side": (lambda: tiff(FIVE8[:, :, :4], extra=(0,)), 4, None, FIVE8[:, :, :4]),
    "five channels side by side": (lambda: tiff(FIVE8, extra=(0, 0)), 5, None, FIVE8),
    "five channels of no colours": (lambda: tiff(FIVE8, photometric=1, extra=(0,) * 4), 5, None, FIVE8),
    "five channels, planes apart": (lambda: tiff(FIVE8, extra=(0, 0), planar=2), 5, None, FIVE8),
    "three of five planes": (lambda: tiff(np.concatenate([EIGHT, FIVE8[:, :, :2]], -1), extra=(0, 0), planar=2), 3,
                             None, EIGHT),
    "three of four planes": (lambda: tiff(np.concatenate([EIGHT, FIVE8[:, :, :1]], -1), extra=(0,), planar=2), 3,
                             None, EIGHT),
    "five channels of 16 bits": (lambda: tiff(whole(BANDS, 65535), extra=(0, 0), rows=7), 5, None, FIVE),
    "five pages": (lambda: tiff(*FIVE8.transpose(2, 0, 1)), 5, None, FIVE8),
    "five pages of 16 bits": (lambda: tiff(*whole(BANDS, 65535).transpose(2, 0, 1), rows=5), 5, None, FIVE),
    "pages and a smaller copy": (lambda: tiff(*FIVE8.transpose(2, 0, 1)[:2], FIVE8[::2, ::2, 0], subfile=(0, 0, 1)), 2,
                                 None, FIVE8[:, :, :2]),
    "five channels of a colour image": (lambda: tiff(np.concatenate([EIGHT, FIVE8[:, :, :2]], -1), extra=(0, 0)), 3,
                                        None, EIGHT),
    "npy of five channels of floats": (lambda: npy(BANDS.astype("f4")), 5, None, FIVE),
    "planes apart, 8 bits": (lambda: tiff(EIGHT, planar=2), 3, None, EIGHT),
    "planes apart, 16 bits, tiles": (lambda: tiff(U16, planar=2, tile=16, compression=8), 3, None, COLOUR),
    "deflate, differences of numbers": (lambda: tiff(U16, compression=8, predictor=2, rows=5), 3, None, COLOUR),
    "deflate, differences of floats": (lambda: tiff(RGB.astype("f4"), compression=8, predictor=3, rows=5), 3, None,
                                       COLOUR),
    "tiles, differences of floats": (lambda: tiff(RAMP.astype("f8"), compression=8, predictor=3, tile=32), 3, None,
                                     GRAY),
    "tiles, differences of numbers": (lambda: tiff(gray(12), compression=8, predictor=2, tile=32), 3, None, GRAY),
    "big-endian": (lambda: tiff(U16, order=">", compression=8, predictor=2), 3, None, COLOUR),
    "big-endian floats": (lambda: tiff(RGB.astype("f4"), order=">"), 3, None, COLOUR),
    "BigTIFF": (lambda: tiff(U16, big=True, rows=10), 3, None, COLOUR),
    "BigTIFF of five pages": (lambda: tiff(*whole(BANDS, 65535).transpose(2, 0, 1), big=True), 5, None, FIVE),
    "12 bits packed": (lambda: tiff(gray(12), bits=12), 3, None, GRAY),
    **{f"{bits} bits packed": (partial(tiff, gray(bits), bits=bits), 3, None, shades(gray(bits), 0, 2**bits - 1))
       for bits in (1, 2, 3, 4, 5, 7, 9, 11, 15)},
    "24 bits packed": (lambda: tiff(whole(RAMP, 2**24 - 1, "u4"), bits=24), 3, None, GRAY),
    "white is zero, 3 bits packed": (lambda: tiff(gray(3), bits=3, photometric=0), 3, None,
                                     255 - shades(gray(3), 0, 7)),
    "colours of 4 bits packed": (lambda: tiff(whole(RGB, 15), bits=4), 3, None, shades(whole(RGB, 15), 0, 15)),
    "a palette for 16 bits": (lambda: tiff(gray(16), photometric=3, palette=PALETTE), 3, None,
                              np.stack([GRAY, 255 - GRAY, 0 * GRAY], -1)),
    "a palette in a big-endian BigTIFF": (
        lambda: tiff(EIGHT[:, :, 0], photometric=3, palette=PALETTE8, big=True, order=">"), 3, None,
        np.stack([GRAY, 255 - GRAY, 0 * GRAY], -1),
    ),
    **{f"the opacity among other bands, {kind}": (
        partial(tiff, whole(np.insert(np.dstack([RGB, RAMP]), at, FADING, -1), np.iinfo(kind).max, kind),
                extra=(2, 0) if at == 3 else (0, 2)),
        3, (0, 65535), on_white(255 * RGB, FADING[:, :, None]),
    ) for kind, at in (("u1", 3), ("u2", 4))},
    "a clear shade of 2 bits, png": (lambda: png(gray(2), 0, bits=2, more=chunk(b"tRNS", b"\0\1")), 3, None,
                                     np.where(gray(2) == 1, 255, shades(gray(2), 0, 3))),
    "a clear shade of 4 bits, png": (lambda: png(gray(4), 0, bits=4, more=chunk(b"tRNS", b"\0\7")), 1, None,
                                     np.where(gray(4) == 7, 255, shades(gray(4), 0, 15))),
    "gray and alpha of 16 bits, as colours": (lambda: png(np.stack([gray(16), HALF], -1), 4), 4, None,
                                              np.dstack([GRAY, GRAY, GRAY, np.full((H, W), 128)])),
    "colours and alpha of 16 bits, as gray": (
        lambda: png(np.dstack([gray(16)] * 3 + [HALF]), 6), 2, None, np.dstack([GRAY, np.full((H, W), 128)])),
    "true and false in npy": (lambda: npy(RAMP > 0.5), 3, None, 255 * (RAMP > 0.5)),
    "LZW floats": (lambda: saved(Image.fromarray(RAMP.astype("f4")), "TIFF", compression="tiff_lzw"), 3, None, GRAY),
    "Zstandard, 16 bits": (lambda: saved(Image.fromarray(gray(12)), "TIFF", compression="zstd"), 3, None, GRAY),
    "floats of three colours as pfm": (lambda: pfm3(RGB * 9), 3, None, COLOUR),
    "colours multiplied by the opacity, 16 bits": (lambda: tiff(clear(RGB, 65535, "u2"), extra=(1,)), 3, (0, 65535),
                                                   on_white(255 * RGB, FADING[:, :, None])),
    "multiplied, planes apart, 8 bits": (lambda: tiff(clear(RGB, 255, "u1"), extra=(1,), planar=2), 3, None,
                                         on_white(255 * RGB, FADING[:, :, None])),
    "gray multiplied by the opacity, 8 bits": (lambda: tiff(clear(RAMP[:, :, None], 255, "u1"), extra=(1,)), 3, None,
                                               on_white(255 * RAMP, FADING)),
    "white is zero, and an opacity": (lambda: tiff(whole(FADED, 255, "u1"), photometric=0, extra=(2,)), 3, None,
                                      on_white(255 - GRAY, FADING)),
    "a camera's raw numbers, 8 bits": (lambda: tiff(whole(RAMP, 255, "u1"), photometric=32803), 3, None, GRAY),
    "big-endian BigTIFF, 8 bits": (lambda: tiff(EIGHT, big=True, order=">"), 3, None, EIGHT),
    "a smaller copy before the image, 8 bits": (lambda: tiff(EIGHT[::4, ::4], EIGHT, subfile=(1, 0)), 3, None, EIGHT),
    "a smaller copy before the image, 16 bits": (lambda: tiff(U16[::4, ::4], U16, subfile=(1, 0)), 3, None, COLOUR),
    "a mask before the image": (lambda: tiff(EIGHT[:, :, 0], EIGHT, subfile=(4, 0)), 3, None, EIGHT),
    "nothing but a smaller copy": (lambda: tiff(U16, subfile=(1,)), 3, None, COLOUR),
    "nothing but a smaller copy, 8 bits": (lambda: tiff(EIGHT, subfile=(1,)), 3, None, EIGHT),
    "a strip never written, 8 bits": (lambda: without_strip(tiff(EIGHT, rows=12)), 3, None, gone(EIGHT)),
    "a strip never written, deflate": (lambda: without_strip(tiff(gray(16), rows=12, compression=8)), 3, None,
                                       gone(GRAY)),
    "a strip never written, nodata": (lambda: without_strip(tiff(200 + SMALL, rows=12, nodata="9")), 3, None,
                                      gone(shades(SMALL, 0, 1000))),
    "one number alone, 16 bits": (lambda: tiff(np.full((H, W), 32768, "u2")), 1, None, np.full((H, W), 128)),
}  # fmt: skip
REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "complex": (lambda: tiff(RAMP.astype("c8")), 3, "its numbers are complex numbers of 64 bits"),
    "24-bit floats": (lambda: tiff(RAMP.astype("f4"), bits=24), 3, "its numbers are floats of 24 bits"),
    "33-bit integers": (lambda: tiff(gray(8), bits=33), 3, "its numbers are unsigned integers of 33 bits"),
    "inks in a big-endian BigTIFF": (
        lambda: tiff(FIVE8[:, :, :4], photometric=5, big=True, order=">"),
        3,
        "a big-endian BigTIFF of 4 channels of unsigned integers of 8 bits",
    ),
    "complex npy": (lambda: npy(RAMP.astype("c8")), 1, "its numbers are complex64; integers and floats"),
    "five channels for three": (lambda: tiff(FIVE8, photometric=1, extra=(0,) * 4), 3, "it has 5 channels, and"),
    "five channels for four": (lambda: tiff(FIVE8, extra=(0, 0)), 4, "it has 5 channels, and data.channels is 4"),
    "pages of other types": (lambda: tiff(FIVE8[:, :, 0], gray(16)), 2, "pages differ in their numbers"),
    "cut off": (lambda: tiff(gray(16))[:3000], 3, "damaged"),
    "cut off npy": (lambda: npy(RAMP)[:3000], 1, "ends early"),
    "cut off pgm": (lambda: anymap(gray(12), 4095)[:3000], 1, "ends early"),
    "cut off text": (lambda: anymap(gray(12), 4095, text=True)[:300], 1, "ends early"),
}


@pytest.mark.parametrize("name", READ)
def test_numbers_become_the_shades_that_they_are(name: str, tmp_path: Path) -> None:
    make, channels, value_range, wanted = READ[name]
    path = tmp_path / "image"
    path.write_bytes(make())
    found = decode(path, channels=channels, value_range=value_range)
    wanted = wanted if wanted.ndim == 3 else wanted[:, :, None].repeat(channels, 2)
    assert found.dtype == torch.uint8
    assert found.shape == (channels, H, W)
    assert np.abs(found.permute(1, 2, 0).numpy() - wanted).max() <= 1
    deep = decode(path, channels=channels, value_range=value_range, depth=16)
    assert deep.dtype == torch.int16
    assert np.abs(deep.permute(1, 2, 0).numpy() * (255 / 32767) - wanted).max() <= 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_has_a_reason(name: str) -> None:
    make, channels, reason = REFUSED[name]
    with pytest.raises(DataError, match=reason):
        decode(make(), channels=channels)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_is_turned_as_pillow_turns_it(form: str) -> None:
    bars = np.zeros((40, 60, 3), np.uint8)
    bars[:10, :, 0], bars[:, :6, 2] = 255, 255
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        data = saved(Image.fromarray(bars), form, exif=exif)
        with Image.open(io.BytesIO(data)) as image:
            wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
        found = decode(data).permute(1, 2, 0).numpy()
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 3


@pytest.mark.parametrize("turn", range(1, 9))
def test_numbers_are_turned_too(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    x = gray(16)
    x[:9] = 0
    picture = Image.fromarray((x / 257).round().astype(np.uint8))
    picture.getexif()[0x0112] = turn
    wanted = np.asarray(ImageOps.exif_transpose(picture)).astype(int)
    for data in (tiff(x, orientation=turn), png(x, 0, more=chunk(b"eXIf", block))):
        found = decode(data, channels=1)[0].numpy()
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1


def test_a_turn_that_is_written_after_the_pixels_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(EIGHT), "PNG")
    block = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    assert decode(data[:-12] + block + data[-12:]).shape == (3, W, H)


def test_a_broken_turn_loses_no_image() -> None:
    for data in (
        png(gray(16), 0, more=chunk(b"eXIf", b"II*\0garbage")),
        saved(Image.fromarray(EIGHT), "PNG", exif=b"x"),
    ):
        assert decode(data).shape == (3, H, W)


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_what_is_clear_has_no_shade_where_it_is_shrunk(form: str) -> None:
    seen = (np.arange(W) // 3 % 2 == 0) & (RAMP >= 0)
    x = np.dstack([seen, ~seen & seen, ~seen, seen]) * np.uint16(65535)
    data = png(x, 6) if form == "png" else tiff(x, extra=(2,))
    laid = Image.fromarray(np.where(seen[:, :, None], [255, 0, 0], 255).astype(np.uint8))
    wanted = np.asarray(laid.resize((27, 20), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(decode(data, cap=20).permute(1, 2, 0).numpy() - wanted).max() <= 1
    deep = decode(data, cap=20, depth=16).permute(1, 2, 0).numpy() * (255 / 32767)
    assert np.abs(deep - wanted).max() <= 1


def test_a_hot_pixel_does_not_darken_the_image() -> None:
    x = gray(10)
    x[20, 20] = 65535
    numbers = read_numbers(tiff(x))
    assert numbers is not None
    assert numbers.span() == (0, 1023)
    x[:10] = 65535  # a fifth of the image is no defect
    numbers = read_numbers(tiff(x))
    assert numbers is not None
    assert numbers.span() == (0, 65535)


def test_numbers_are_read_from_open_files_and_not_of_8_bits() -> None:
    assert read_numbers(saved(Image.fromarray(EIGHT), "PNG")) is None
    file = io.BytesIO(tiff(gray(12)))
    assert np.array_equal(decode(file).numpy(), decode(tiff(gray(12))).numpy())


def test_numbers_of_many_bytes_are_not_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", W * H)
    found = decode(tiff(whole(BANDS, 65535), extra=(0, 0), rows=7), channels=5)
    assert np.abs(found.permute(1, 2, 0).numpy() - FIVE).max() <= 1


def test_all_holes_is_a_black_image() -> None:
    assert (decode(tiff(np.full((4, 5), np.nan, "f4"))) == 0).all()
