"""Large images: the same pixels by tiles, no second raster in memory, one at a time over all threads."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_cli import memory
from ssl_cli.data import decode as module
from ssl_cli.data import tiles, wide
from ssl_cli.data.decode import decode, peak_bytes
from ssl_cli.data.decoding import SMALL, DecodingMemory
from ssl_cli.data.reader import Reader
from ssl_cli.errors import DataError
from tests.data.as_a_whole import decode_whole
from tests.data.files import anymap, npy, png, tiff
from tests.selection import slow

SIZES = [(1, 1), (7, 5), (61, 40), (40, 61), (300, 3), (131, 257)]


@cache
def noise(size: tuple[int, int], mode: str) -> Image.Image:
    generator = np.random.default_rng(sum(size))
    width, height = size
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 65536, (height, width)).astype(np.uint16))
    if mode == "I":
        return Image.fromarray(generator.integers(-(10**6), 10**6, (height, width)).astype(np.int32))
    if mode in ("F", "F01"):
        values = generator.random((height, width)).astype(np.float32) * (1 if mode == "F01" else 1000)
        values[generator.random((height, width)) < 0.1] = np.nan if mode == "F01" else np.inf
        return Image.fromarray(values)
    rgba = Image.fromarray(generator.integers(0, 256, (height, width, 4), dtype=np.uint8))
    if mode == "P":
        return rgba.convert("RGB").quantize(16)
    return rgba.convert(mode)


def encoded(image: Image.Image, form: str, **given: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **given)
    return file.getvalue()


def orientation(k: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = k
    return exif


CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "png 1": ("1", "PNG", {}),
    "png L": ("L", "PNG", {}),
    "png L with a clear shade": ("L", "PNG", {"transparency": 7}),
    "png LA": ("LA", "PNG", {}),
    "png P": ("P", "PNG", {}),
    "png P with opacities": ("P", "PNG", {"transparency": bytes(range(0, 160, 10))}),
    "png RGB": ("RGB", "PNG", {}),
    "png RGB with a clear colour": ("RGB", "PNG", {"transparency": (1, 2, 3)}),
    "png RGBA": ("RGBA", "PNG", {}),
    "png 16 bits": ("I;16", "PNG", {}),
    "tiff 16 bits": ("I;16", "TIFF", {}),
    "tiff I": ("I", "TIFF", {}),
    "tiff F": ("F", "TIFF", {"compression": "tiff_lzw"}),
    "tiff F from 0 to 1": ("F01", "TIFF", {}),
    "tiff 16 bits, Deflate": ("I;16", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff CMYK": ("CMYK", "TIFF", {}),
    "tiff RGBA": ("RGBA", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "jpeg CMYK": ("CMYK", "JPEG", {}),
    "jpeg L": ("L", "JPEG", {}),
    "jpeg in scans": ("RGB", "JPEG", {"progressive": True}),
    "webp": ("RGBA", "WEBP", {"lossless": True}),
    "gif": ("P", "GIF", {"transparency": 3}),
    "bmp": ("RGB", "BMP", {}),
    "ppm": ("RGB", "PPM", {}),
    "avif": ("RGB", "AVIF", {"speed": 10}),
    **{f"png turned {k}": ("RGB", "PNG", {"exif": orientation(k)}) for k in range(1, 9)},
    **{f"jpeg turned {k}": ("RGB", "JPEG", {"exif": orientation(k)}) for k in (3, 6, 8)},
}
ALL = [(name, channels) for name in CASES for channels in (3, 1)]
ALL += [("png RGBA", 4), ("png P with opacities", 4), ("png LA", 2), ("png LA", 4), ("tiff RGBA", 4)]
FEW = [*ALL[::3], *slow(*(case for number, case in enumerate(ALL) if number % 3))]
"""A third of them; the others are slow."""


def files(name: str, cap: int | None, channels: int) -> Iterator[tuple[Tensor, np.ndarray]]:
    mode, form, given = CASES[name]
    for size in SIZES:
        data = encoded(noise(size, mode), form, **given)
        yield decode(data, cap, channels=channels), decode_whole(data, cap, channels)


@pytest.mark.parametrize(("name", "channels"), FEW)
def test_ordinary_images_are_decoded_to_the_same_bytes(name: str, channels: int) -> None:
    for cap in (None, 4, 33):
        for found, wanted in files(name, cap, channels):
            assert found.dtype == torch.uint8
            assert np.array_equal(found.numpy(), wanted)


@pytest.mark.parametrize(("name", "channels"), FEW)
def test_by_tiles_they_are_the_same_but_for_rounding(name: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "GIANT", 0)
    monkeypatch.setattr(tiles, "SIDE", 16)
    for cap in (None, 4, 33):
        for found, wanted in files(name, cap, channels):
            assert found.shape == wanted.shape
            assert np.abs(found.numpy().astype(int) - wanted).max() <= (0 if cap is None else 1)


@pytest.mark.parametrize("giant", [0, 10**9])
def test_arrays_and_pages(giant: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "GIANT", giant)
    monkeypatch.setattr(tiles, "SIDE", 16)
    x = np.random.default_rng(0).integers(0, 256, (70, 90, 6), dtype=np.uint8)
    pages = [Image.fromarray(np.ascontiguousarray(x[:, :, k])) for k in range(6)]
    several = [encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])]
    for form in (x, x.transpose(2, 0, 1), np.asfortranarray(x)):
        file = io.BytesIO()
        np.save(file, form)
        several.append(file.getvalue())
    for data in several:
        for cap in (None, 20):
            found, wanted = decode(data, cap, channels=6).numpy(), decode_whole(data, cap, 6)
            assert np.abs(found.astype(int) - wanted).max() <= (1 if giant == 0 and cap else 0)


SPACE = """
import re, sys
from pathlib import Path
from ssl_cli.data.decode import decode
def memory(key): return int(re.search(key + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
channels = int(sys.argv[2])
depth = int(sys.argv[3]) if len(sys.argv) > 3 else 8
decode(Path(sys.argv[1]).with_name("small"), 64, channels=channels, depth=depth)
Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
decode(Path(sys.argv[1]), 64, channels=channels, depth=depth)
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        *((name, 3) for name in ("png L", "png LA", "png RGBA", "png P with opacities")),
        *((name, 3) for name in ("avif", "jpeg CMYK", "jpeg in scans", "webp", "gif", "bmp", "tiff CMYK", "png RGB")),
        ("png RGBA", 4),
    ],
)
def test_the_memory_is_what_is_counted(tmp_path: Path, name: str, channels: int) -> None:
    """What is counted for a large image, without its file, is neither less than it takes nor three times as much."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not report the peak")
    mode, form, given = CASES[name]
    side = 4100
    tile = noise((500, 500), mode)
    image = Image.new(tile.mode, (side, side))
    if tile.mode == "P":
        image.putpalette(tile.getpalette() or [])
    for left in range(0, side, 500):
        for top in range(0, side, 500):
            image.paste(tile, (left, top))
    (tmp_path / "large").write_bytes(encoded(image, form, **given))
    (tmp_path / "small").write_bytes(encoded(tile, form, **given))
    done = subprocess.run(
        [sys.executable, "-c", SPACE, str(tmp_path / "large"), str(channels)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    scans = 2 * 3 * side * side if name == "jpeg in scans" else 0
    size = (side // 8, side // 8) if form == "JPEG" else (side, side)
    counted = peak_bytes(*size, image.mode, form) + scans + (tmp_path / "large").stat().st_size
    assert int(done.stdout) <= counted
    if form != "JPEG":
        assert int(done.stdout) > counted / 3 - 80 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(("side", "depth"), [(4100, 8), (4100, 16), (3900, 16)])
@pytest.mark.parametrize(
    "name", ["png 16 bits", "png RGB", "tiff RGB", "tiff planes", "tiff F", "tiff pages", "npy", "ppm"]
)
def test_the_memory_of_numbers_is_what_is_counted(tmp_path: Path, name: str, side: int, depth: int) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not report the peak")
    tile = np.random.default_rng(0).integers(0, 4096, (500, 500, 5), dtype=np.uint16)
    x, channels = np.tile(tile, (9, 9, 1))[:side, :side], 5 if name in ("npy", "tiff pages") else 3
    data = {
        "png 16 bits": lambda: png(x[:, :, 0], 0),
        "png RGB": lambda: png(x[:, :, :3], 2),
        "tiff RGB": lambda: tiff(x[:, :, :3], rows=64, compression=8, predictor=2),
        "tiff planes": lambda: tiff(x[:, :, :3], tile=256, planar=2, order=">"),
        "tiff F": lambda: tiff(x[:, :, 0].astype(np.float32), compression=8, predictor=3, rows=64),
        "tiff pages": lambda: tiff(*x.transpose(2, 0, 1), rows=64),
        "npy": lambda: npy(x),
        "ppm": lambda: anymap(x[:, :, :3], 4095),
    }[name]()
    (tmp_path / "large").write_bytes(data)
    few = tile[:40, :40]
    (tmp_path / "small").write_bytes(tiff(*few.transpose(2, 0, 1)) if channels == 5 else tiff(few[:, :, :3]))
    done = subprocess.run(
        [sys.executable, "-c", SPACE, str(tmp_path / "large"), str(channels), str(depth)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    found = wide.find(io.BytesIO(data), channels)
    assert found is not None
    counted = module.bytes_of_numbers(found, channels, depth) + len(data)
    assert counted / 3 - 80 * 2**20 < int(done.stdout) <= counted


def test_what_a_read_takes_is_known_before_it() -> None:
    assert peak_bytes(13_000, 13_000, "L", "PNG") < 0.3e9
    assert peak_bytes(13_000, 13_000, "F", "TIFF") < 1.5e9
    assert peak_bytes(13_000, 13_000, "RGBA", "PNG") < 0.8e9
    assert peak_bytes(500, 400, "RGB", "JPEG") < SMALL


def test_more_than_the_memory_allows_is_a_bad_image(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("L", (5000, 5000)), "PNG")
    assert decode(data, 8).shape == (3, 8, 8)
    monkeypatch.setattr(memory, "available", lambda: 10**7)
    with pytest.raises(DataError, match=r"takes 1\d\d MB, and 10.0 MB are free"):
        decode(data, 8)
    assert decode(encoded(Image.new("L", (50, 50)), "PNG"), 8).shape == (3, 8, 8)
    monkeypatch.undo()

    def refused(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "_by_tiles", refused)
    with pytest.raises(DataError, match="which are not free"):
        decode(data, 8)


def test_large_reads_wait_for_one_another() -> None:
    shared, most, inside, lock = DecodingMemory(limit=3 * SMALL), [0], [0], threading.Lock()

    def read(size: int) -> None:
        with shared.hold(size):
            with lock:
                inside[0] += size
                most[0] = max(most[0], inside[0])
            threading.Event().wait(0.01)
            with lock:
                inside[0] -= size

    sizes = [SMALL, 2 * SMALL, 5 * SMALL, SMALL] * 8
    threads = [threading.Thread(target=read, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [0]
    assert most[0] == 5 * SMALL  # which was alone


ALL_AT_ONCE = """
import re, sys
from pathlib import Path
import torch
from ssl_cli.data.decode import peak_bytes
from ssl_cli.data.decoding import DECODING
from ssl_cli.data.folder import of_paths
from ssl_cli.data.reader import Reader
def memory(key): return int(re.search(key + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
DECODING.limit = 1
source = of_paths("large", [sys.argv[1]] * 8, [-1] * 8)
before = memory("VmRSS")
with Reader(source, 4, 64) as reader:
    for pending in [reader.submit(k) for k in range(8)]:
        reader.result(pending)
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_the_memory_of_all_threads_is_that_of_one(tmp_path: Path, mode: str) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not report the peak")
    Image.new(mode, (4100, 4100)).save(tmp_path / "large.png")
    done = subprocess.run(
        [sys.executable, "-c", ALL_AT_ONCE, str(tmp_path / "large.png")],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert int(done.stdout) <= peak_bytes(4100, 4100, mode, "PNG") + 30 * 2**20


def test_a_read_that_hangs_is_counted_no_longer() -> None:
    shared, hung, release = DecodingMemory(limit=SMALL, expiry=0.05), threading.Event(), threading.Event()

    def hang() -> None:
        with shared.hold(SMALL):
            hung.set()
            release.wait()

    thread = threading.Thread(target=hang, daemon=True)
    thread.start()
    hung.wait()
    with shared.hold(SMALL):
        assert shared.began(threading.get_ident()) > 0
    release.set()
    thread.join()
    shared.expiry = 1e9
    with shared.hold(SMALL):
        pass


class Large:
    """Three large images, the first of which never ends."""

    def __init__(self, shared: DecodingMemory) -> None:
        self.name, self.labels = "large", torch.full((3,), -1)
        self.classes: tuple[str, ...] = ()
        self.shared, self.release = shared, threading.Event()

    def __len__(self) -> int:
        return 3

    def path(self, index: int) -> str:
        return str(index)

    def read(self, index: int, cap: int | None = None) -> Tensor:
        with self.shared.hold(SMALL):
            if index == 0:
                self.release.wait()
            return torch.full((3, 2, 2), index, dtype=torch.uint8)


def test_those_that_wait_are_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = DecodingMemory(limit=SMALL)
    monkeypatch.setattr("ssl_cli.data.reader.DECODING", shared)
    source = Large(shared)
    try:
        with Reader(source, 3, deadline=0.3) as reader:
            first = reader.submit(0)
            while not any(shared.began(worker.ident) for worker in reader._workers):
                time.sleep(0.01)
            others = [reader.submit(k) for k in (1, 2)]
            with pytest.raises(DataError, match=r"longer than 0.3 seconds"):
                reader.result(first)
            assert [int(reader.result(other)[0, 0, 0]) for other in others] == [1, 2]
    finally:
        source.release.set()
