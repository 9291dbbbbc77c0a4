"""Damaged images of eight formats and arrays: each is read or refused with a reason, soon and in little memory."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ssl_cli.data.decode import decode
from ssl_cli.errors import DataError
from tests.hostile.mutated import FORMATS, whole

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


def test_a_hundred_mutated_images() -> None:
    assert 0 < check(0, 100) < 100


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 3100, 200))
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
