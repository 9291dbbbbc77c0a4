"""How fast the disk takes a checkpoint, and how fast images are decoded: each within about a second."""

import io
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ssl_cli.data.decode import decode

BLOCK, BLOCKS = 1 << 20, 64
"""Bytes that are written at a time, and how often at most."""
SECONDS = 1.0
SIDES, CAP = (500, 375), 392
"""Width and height of a photograph as in ImageNet, and the short side that it is reduced to for views of 224 pixels."""


def write_speed(folder: Path, seconds: float = SECONDS) -> float:
    """Write to a file in a folder, sync it to the disk, and delete it; return bytes per second.

    Raises:
        OSError: it cannot be written, or is full.
    """
    data = os.urandom(BLOCK)  # which no file system compresses
    with tempfile.TemporaryFile(dir=folder) as file:
        began, written = time.perf_counter(), 0
        while written < BLOCK * BLOCKS and (not written or time.perf_counter() - began < seconds):
            written += file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return written / max(time.perf_counter() - began, 1e-9)


def decode_speed(threads: int, seconds: float = SECONDS) -> float:
    """Decode a photograph again and again in several threads; return images per second."""
    photograph = _photograph()
    with ThreadPoolExecutor(threads) as pool:
        began, done = time.perf_counter(), 0
        while not done or time.perf_counter() - began < seconds:
            done += sum(len(image) > 0 for image in pool.map(lambda _: decode(photograph, CAP), range(2 * threads)))
        return done / max(time.perf_counter() - began, 1e-9)


def _photograph() -> bytes:
    """Return a JPEG with about as much detail as a photograph."""
    width, height = SIDES
    noise = np.random.default_rng(0).normal(size=(height // 8, width // 8 + 1, 3))
    smooth = Image.fromarray((127 + 40 * noise).clip(0, 255).astype(np.uint8)).resize(SIDES, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    smooth.save(file, format="JPEG", quality=90)
    return file.getvalue()
