"""Damaged images of eight formats and arrays: each is read or refused with a reason, soon and in little memory."""

import contextlib
import io
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.data.decode import decode
from ssl_cli.errors import DataError
from ssl_cli.memory import peak_during
from tests.data.files import tiff
from tests.hostile.mutated import FORMATS, whole

CPU = torch.device("cpu")
SECONDS, BYTES = 5.0, 1.5e9


def check(start: int, stop: int) -> int:
    """Decode mutated images in a process of their own; return how many were read."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.mutated", str(start), str(stop)],
        capture_output=True, text=True, check=False, timeout=900, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1:]} ended with {done.returncode}: {done.stderr[-2000:]}"
    assert len(lines) == 2 * (stop - start)
    for file, outcome in zip(lines[::2], lines[1::2], strict=True):
        assert outcome["wrong"] == "", file
        assert outcome["seconds"] <= SECONDS, file  # of the processor: the load of the machine changes nothing
        assert outcome["peak"] <= BYTES, file
    return sum(outcome["read"] for outcome in lines[1::2])


def test_forty_mutated_images() -> None:
    assert 0 < check(0, 40) < 40


@pytest.mark.slow
@pytest.mark.parametrize("start", range(40, 3040, 200))
def test_three_thousand_mutated_images(start: int) -> None:
    check(start, start + 200)


@pytest.mark.parametrize("form", FORMATS)
def test_before_they_are_mutated_they_are_read(form: str) -> None:
    for data in whole(form):
        assert min(decode(data).shape) >= 3


def archive(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("photo.jpg", data)
    return file.getvalue()


def test_archives_and_programs_are_no_images() -> None:
    jpeg = whole("JPEG")[0]
    nested = archive(archive(jpeg))
    for data in (
        archive(jpeg),
        nested,
        b"GIF89a",
        b"MZ" + bytes(500),
        b"#!/bin/sh\nreboot\n",
        b"<svg/>",
        b"\0" * 100_000,
    ):
        with pytest.raises(DataError):
            decode(data)


def test_a_colour_profile_changes_nothing() -> None:
    image = Image.new("RGB", (20, 10), (200, 90, 10))
    plain, profiled = io.BytesIO(), io.BytesIO()
    image.save(plain, "PNG")
    image.save(profiled, "PNG", icc_profile=b"no profile at all" * 50)
    assert (decode(plain.getvalue()) == decode(profiled.getvalue())).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_sides(size: tuple[int, int]) -> None:
    for form in ("PNG", "JPEG", "TIFF"):
        file = io.BytesIO()
        Image.new("L", size, 77).save(file, form)
        image = decode(file.getvalue(), 56)
        assert image.shape == (3, size[1], size[0])
        assert ((image.int() - 77).abs() <= 2).all()


X = np.zeros((40, 40, 3), np.uint16)


def patched(data: bytes, tag: int, value: int, *, count: int | None = None) -> bytes:
    """Replace the value, or the number of values, of a tag in the only directory of a little-endian TIFF."""
    out, start = bytearray(data), struct.unpack_from("<I", data, 4)[0]
    for place in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        if struct.unpack_from("<H", out, place)[0] == tag:
            struct.pack_into("<I", out, place + 8, value)
            if count is not None:
                struct.pack_into("<I", out, place + 4, count)
    return bytes(out)


def overlapping() -> bytes:
    """Forty strips of 240 bytes, each of which says that it has the 9000 from the first one on."""
    data = tiff(X, rows=1)
    places = struct.pack("<40I", *range(8, 8 + 40 * 240, 240))
    counts = struct.pack("<40I", *[240] * 40)
    assert data.count(places) == data.count(counts) == 1
    return data.replace(places, struct.pack("<I", 8) * 40).replace(counts, struct.pack("<I", 9000) * 40)


HOSTILE = {
    "a billion pixels": (patched(patched(tiff(X), 256, 2**20), 257, 2**20), "pixels"),
    "no pixels": (patched(tiff(X), 256, 0), "pixels"),
    "as many pixels as are read": (patched(patched(tiff(X), 256, 13_000), 257, 13_000), "damaged|takes"),
    "sixty thousand channels": (patched(tiff(X), 277, 60_000), "ends early"),
    "tiles of nothing": (patched(tiff(X, tile=16), 322, 0), "its tiles are empty"),
    "tiles of two billion": (patched(tiff(X, tile=16), 322, 2**31), "damaged|takes"),
    "a tag of four billion": (patched(tiff(X, rows=1), 273, 8, count=2**32 - 1), "its tag 273"),
    "all strips the whole file": (overlapping(), "ends early"),
    "no place of strips": (patched(tiff(X), 273, 0, count=0), "parts of it are missing"),
    "a predictor that is none": (patched(tiff(X), 317, 9), "predictor 9"),
    "an unknown compression": (patched(tiff(X), 259, 777), "scheme 777|not read"),
    "no directory": (b"II*\0" + bytes(60), "no image"),
    "a directory behind the end": (b"II*\0\xff\xff\xff\x7f", "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tiff_is_refused_at_once(name: str) -> None:
    data, reason = HOSTILE[name]

    def refused() -> None:
        with pytest.raises(DataError, match=reason):
            decode(data)

    assert (peak_during(refused, CPU) or 0) < 200 * 2**20


def test_pages_in_a_circle_end() -> None:
    data = bytearray(tiff(X[:, :, 0], X[:, :, 0]))
    first = struct.unpack_from("<I", data, 4)[0]
    link = 2 + 12 * struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, first + link)[0]
    struct.pack_into("<I", data, second + link, first)
    with pytest.raises(DataError, match="it has 2 pages"):
        decode(bytes(data), channels=5)


def test_what_a_strip_decompresses_to_is_bounded() -> None:
    data = tiff(X, compression=8, packed=bytes(2**26))

    def decoded() -> None:
        with contextlib.suppress(DataError):
            decode(data)

    assert (peak_during(decoded, CPU) or 0) < 60 * 2**20
