"""Images of more than 8 bits reach the views as they are: a float64 oracle, caches, mixed sets and pictures."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.api.images import GivenImages
from ssl_cli.augment import evaluation, sheet
from ssl_cli.augment.crop import Box, Crop
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import AugmentSettings, CropSettings
from ssl_cli.config.tree import DataSettings, Settings
from ssl_cli.data import numbers as module
from ssl_cli.data import tiles
from ssl_cli.data.cache import Cache
from ssl_cli.data.decode import decode
from ssl_cli.data.disk_cache import DiskCache
from ssl_cli.data.loader import Loader
from ssl_cli.data.measured import measured
from ssl_cli.data.numbers import LUMA
from ssl_cli.data.sample import read_sample
from ssl_cli.data.sources import open_pretraining
from ssl_cli.objective import Batch, PackedImages
from ssl_cli.registry import OPS
from tests.data.files import npy, open_folder, png, tiff
from tests.data.gpu import gpu

WHITE = 32767
LEVEL = 65535 / 255
HALF = 0.51
"""Half a step of 16 bits, and what float32 adds to it."""
DRAW = np.random.default_rng(0)


def dim(height: int, width: int, channels: int = 1, low: float = 60.0) -> np.ndarray:
    """Numbers of 16 bits that lie within twenty of the 256 levels from 0 to 65535."""
    x = DRAW.uniform(low * LEVEL, (low + 20) * LEVEL, (height, width, channels)).astype(np.uint16)
    return x if channels > 1 else x[:, :, 0]


def triangle(length: int, size: int) -> np.ndarray:
    """The weights `(size,length)` of an antialiased bilinear resize, by the definition."""
    scale = length / size
    weights = np.zeros((size, length))
    for row in range(size):
        for column in range(length):
            distance = abs(column + 0.5 - (row + 0.5) * scale) / max(scale, 1)
            weights[row, column] = max(0.0, 1 - distance)
    found: np.ndarray = weights / weights.sum(1, keepdims=True)
    return found


def resized(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """`(H,W,C)` in float64."""
    found: np.ndarray = np.einsum("yh,hwc,xw->yxc", triangle(len(x), height), x, triangle(x.shape[1], width))
    return found


def levels(x: np.ndarray, low: float, high: float) -> np.ndarray:
    found: np.ndarray = ((x.astype(np.float64) - low) / (high - low)).clip(0, 1)
    return found if found.ndim == 3 else found[:, :, None]


def saved(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


GRAY, COLOUR, FIVE = dim(24, 30), dim(24, 30, 3), dim(24, 30, 5)
ALPHA = np.linspace(0, 65535, 24 * 30).reshape(24, 30, 1).round().astype(np.uint16)
SHARE = ALPHA / 65535
HOLED = np.where(GRAY > 70 * LEVEL, np.nan, GRAY).astype("f4")
PALE = DRAW.integers(0, 256, (24, 30, 3), np.uint8)
Case = tuple[Callable[[], bytes], int, np.ndarray]
CASES: dict[str, Case] = {
    "png": (lambda: png(GRAY, 0), 1, levels(GRAY, 0, 65535)),
    "png, to colours": (lambda: png(GRAY, 0), 3, levels(GRAY, 0, 65535).repeat(3, 2)),
    "png of colours": (lambda: png(COLOUR, 2), 3, levels(COLOUR, 0, 65535)),
    "png of colours, to gray": (lambda: png(COLOUR, 2), 1, levels(COLOUR, 0, 65535) @ np.array(LUMA)[:, None] / 65536),
    "png with opacity": (lambda: png(np.concatenate([COLOUR, ALPHA], -1), 6), 3,
                         levels(COLOUR, 0, 65535) * SHARE + 1 - SHARE),
    "png with opacity, four channels": (lambda: png(np.concatenate([COLOUR, ALPHA], -1), 6), 4,
                                        np.concatenate([levels(COLOUR, 0, 65535), SHARE], -1)),
    "tiff": (lambda: tiff(GRAY, compression=8, predictor=2), 1, levels(GRAY, 0, 65535)),
    "tiff, big-endian": (lambda: tiff(GRAY, order=">"), 1, levels(GRAY, 0, 65535)),
    "tiff, white is zero": (lambda: tiff(GRAY, photometric=0), 1, 1 - levels(GRAY, 0, 65535)),
    "tiff of floats with holes": (lambda: tiff(HOLED), 1, np.nan_to_num(levels(HOLED, 0, 65535))),
    "tiff of five channels": (lambda: tiff(FIVE, extra=(0, 0), planar=2), 5, levels(FIVE, 0, 65535)),
    "npy of doubles": (lambda: npy(COLOUR.astype("f8") + 0.25), 3, levels(COLOUR + 0.25, 0, 65535)),
    "8 bits": (lambda: saved(Image.fromarray(PALE)), 3, PALE / 255),
    "8 bits, npy": (lambda: npy(PALE), 3, PALE / 255),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pixels_of_16_bits_are_within_half_a_step_of_the_numbers(name: str) -> None:
    make, channels, wanted = CASES[name]
    found = decode(make(), channels=channels, value_range=(0, 65535), depth=16)
    assert found.dtype == torch.int16
    assert np.abs(found.permute(1, 2, 0).numpy() - wanted * WHITE).max() <= HALF


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("8 bits") and "opacity" not in name])
def test_they_are_rounded_once_also_where_they_are_shrunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, channels, wanted = CASES[name]
    found = decode(make(), 8, channels=channels, value_range=(0, 65535), depth=16)
    assert found.shape == (channels, 8, 10)
    small = resized(wanted, 8, 10) * WHITE
    assert np.abs(found.permute(1, 2, 0).numpy() - small).max() <= HALF
    monkeypatch.setattr(tiles, "GIANT", 1)  # as images of 16 million pixels are
    monkeypatch.setattr(tiles, "SIDE", 7)
    monkeypatch.setattr(module, "AT_ONCE", 50)
    giant = decode(make(), 8, channels=channels, value_range=(0, 65535), depth=16)
    assert np.abs(giant.permute(1, 2, 0).numpy() - small).max() <= HALF


def test_a_large_image_is_shaded_by_a_table() -> None:
    x = dim(300, 260)
    for signed in (x, (x.astype(int) - 32768).astype("i2")):
        low = float(signed.min())
        found = decode(tiff(signed), channels=1, value_range=(low, low + 65535), depth=16)
        assert np.abs(found[0].numpy() - levels(signed, low, low + 65535)[:, :, 0] * WHITE).max() <= HALF


def photos(folder: Path, count: int = 12, *, mixed: bool = False) -> Path:
    """Images of several sizes whose texture lies in twenty of 256 levels, but for eight pixels, black or white."""
    folder.mkdir(parents=True)
    for k in range(count):
        x = dim(20 + k, 32 - k)
        x.reshape(-1)[np.arange(8) * (x.size // 8)] = [0, 65535] * 4
        (folder / f"{k:02}.{'png' if k % 2 else 'tif'}").write_bytes(png(x, 0) if k % 2 else tiff(x))
    if mixed:
        Image.fromarray(PALE).save(folder / "pale.png")
    return folder


def settings(folder: Path, **data: object) -> Settings:
    table = {"source": str(folder), "size": 16, "channels": 1, **data}
    return Settings.model_validate({"method": {"name": "simclr"}, "data": table})


def crops(images: Tensor | list[Tensor] | PackedImages, interpolation: Literal["bilinear", "bicubic"]) -> Tensor:
    """The lower right of each image, of 13 x 11 pixels, as 8 x 8."""
    lines = [torch.full((len(images),), k) for k in (13, 11)]
    height, width = (torch.tensor([image.shape[axis] for image in images]) for axis in (1, 2))
    box = Box(height - lines[0], width - lines[1], *lines)
    return Crop(CropSettings(interpolation=interpolation), 8).apply(images, box)


def test_a_signal_in_20_of_256_levels_reaches_the_views(tmp_path: Path) -> None:
    given = settings(photos(tmp_path / "cells"))
    source = open_pretraining(given.data, 0)
    given, choices = measured(given, source)
    assert given.data.depth == 16
    assert [choice.value for choice in choices] == ["0 to 65535", "16 bits"]
    again = open_pretraining(given.data, 0)  # as a run that is resumed opens it
    images = [source.read(k) for k in range(12)]
    assert all(torch.equal(again.read(k), image) for k, image in enumerate(images))
    assert {image.dtype for image in images} == {torch.int16}
    views = crops(images, "bilinear")
    flat = views[(views > 60 / 255) & (views < 80 / 255)]
    assert len(flat) > 500
    assert len(set(flat.tolist())) > 200
    for k, image in enumerate(images):
        x = levels(np.asarray(Image.open(source.path(k))), 0, 65535)[-13:, -11:]
        wanted = resized(x, 8, 8)[:, :, 0]
        assert np.abs(views[k, 0].numpy() - wanted).max() * WHITE <= HALF
        assert np.abs(image[0, -13:, -11:].numpy() - x[:, :, 0] * WHITE).max() <= HALF


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_every_way_of_cropping_maps_white_to_one(interpolation: Literal["bilinear", "bicubic"]) -> None:
    draw = torch.Generator().manual_seed(0)
    small = torch.randint(0, WHITE + 1, (3, 2, 20, 24), dtype=torch.int16, generator=draw)
    large = torch.randint(0, WHITE + 1, (2, 2, 70, 80), dtype=torch.int16, generator=draw)
    for images in (small, large):
        whole, single = crops(images, interpolation), crops(list(images), interpolation)
        packed = crops(PackedImages.pack(list(images)), interpolation)
        eight = crops((images >> 7).to(torch.uint8), interpolation)  # 128 levels of 16 bits in one of 8
        assert PackedImages.pack(list(images)).pixels.dtype == torch.int16
        for views in (single, packed):
            torch.testing.assert_close(views, whole, rtol=0, atol=2e-6)
        torch.testing.assert_close(eight, whole, rtol=0, atol=2 / 255)
        assert float((eight - whole).abs().mean()) < 0.5 / 255
    shade = torch.full((1, 1, 16, 16), 12345, dtype=torch.int16)
    augment = AugmentSettings.model_validate({"order": ["crop"], "crop": {"interpolation": interpolation}})
    for size in (16, 8, 40):
        for given in (shade, [shade[0]]):
            assert float((evaluation.fit(given, size, augment) - 12345 / WHITE).abs().max()) < 1e-6


def test_every_operation_takes_them() -> None:
    augment = AugmentSettings.model_validate({"order": [name for name in OPS if name not in ("solarize", "sobel")]})
    draw = torch.Generator().manual_seed(0)
    eight = torch.randint(0, 256, (6, 3, 20, 24), dtype=torch.uint8, generator=draw)
    deep = torch.from_numpy(module.in_depth(eight.numpy(), 16))
    pipeline = Pipeline(augment, 16, 0)
    index = torch.arange(6)
    views = [pipeline.stacked(Batch(x, torch.zeros(6), index), 2) for x in (eight, deep)]
    torch.testing.assert_close(views[1], views[0], rtol=0, atol=2e-3)  # of equal numbers, up to their rounding


def epochs(loader: Loader) -> list[Tensor]:
    return [image for batch in loader.batches(0, 9) for image in batch.image]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_caches_hold_them_bit_by_bit(tmp_path: Path) -> None:
    folder = photos(tmp_path / "cells")

    def source(depth: int = 16) -> object:
        return open_folder(folder, 1, (0, 65535), depth)

    wanted = epochs(Loader(source(), 4, 0, cache="none", cap=18))  # type: ignore[arg-type]
    assert wanted[0].dtype == torch.int16
    assert same(wanted, epochs(Loader(source(), 4, 0, cache="ram", cap=18)))  # type: ignore[arg-type]
    names = set()
    for _ in range(2):  # written, and read
        disk = DiskCache(source(), tmp_path / "cache", 18)  # type: ignore[arg-type]
        assert disk.store is not None
        names.add(disk.store.folder.name)
        assert same(wanted, epochs(Loader(disk, 4, 0, cache="none", cap=18)))
        assert len(disk.store) == 12
    eight = DiskCache(source(8), tmp_path / "cache", 18)  # type: ignore[arg-type]
    assert eight.store is not None
    assert len(names) == 1
    assert eight.store.folder.name not in names
    assert eight.read(0, 18).dtype == torch.uint8


def test_a_cache_counts_two_bytes_a_number() -> None:
    images = torch.arange(4 * 3 * 4 * 4).view(4, 3, 4, 4).to(torch.int16)
    cache = Cache(4, "auto", 2 * 96 + 95)
    cache.put(torch.arange(4), list(images))
    assert int(cache.has.sum()) == 2
    whole = Cache(4, "auto", 4 * 96)
    whole.put(torch.tensor([1, 2]), images[1:3])
    assert torch.equal(torch.as_tensor(whole.take(torch.tensor([2, 1]))), images[[2, 1]])
    whole.put(torch.tensor([0]), [images[0, :, :2]])  # of another size
    assert int(whole.has.sum()) == 3
    row = images[3:]
    alone = Cache(4, "auto", 100)
    alone.put(torch.tensor([3]), [row[0]])
    assert torch.as_tensor(alone.take(torch.tensor([3]))).dtype == torch.int16


def test_gpu_memory_holds_them_where_it_holds_two_bytes_a_number() -> None:
    images = torch.arange(4 * 48).view(4, 3, 4, 4).to(torch.int16)
    with gpu() as device:
        for room in (2 * 4 * 48, 2 * 4 * 48 - 1):
            cache = Cache(4, "auto", 1e9, device, room)
            cache.put(torch.arange(4), images)
            assert cache.on_gpu == (room == 2 * 4 * 48)
            assert torch.equal(torch.as_tensor(cache.take(torch.arange(4))).cpu().as_subclass(Tensor), images)


def test_a_mixed_set_has_one_range_and_one_depth(tmp_path: Path) -> None:
    given = settings(photos(tmp_path / "cells", mixed=True), channels=3)
    source = open_pretraining(given.data, 0)
    given, choices = measured(given, source)
    assert "16-bit numbers in 12 of 13 sampled files" in choices[1].reason
    images = {source.path(k): source.read(k) for k in range(13)}
    assert {image.dtype for image in images.values()} == {torch.int16}
    pale = images[str(tmp_path / "cells" / "pale.png")]
    assert np.abs(pale.permute(1, 2, 0).numpy() - PALE / 255 * WHITE).max() <= HALF
    assert read_sample(source, 16).image_bytes == sum(image.nbytes for image in images.values()) / 13


def test_the_depth_is_as_asked_or_that_of_the_files(tmp_path: Path) -> None:
    cells, pale = photos(tmp_path / "cells"), tmp_path / "pale"
    pale.mkdir()
    for k in range(3):
        Image.fromarray(PALE).save(pale / f"{k}.png")

    def found(folder: Path, **data: object) -> tuple[object, torch.dtype, list[str]]:
        given = settings(folder, **data)
        source = open_pretraining(given.data, 0)
        given, choices = measured(given, source)
        return given.data.depth, source.read(0).dtype, [choice.name for choice in choices]

    assert found(cells) == (16, torch.int16, ["range", "depth"])
    assert found(cells, depth=8) == (8, torch.uint8, ["range", "depth"])
    assert found(cells, range=[0, 65535]) == (16, torch.int16, ["range", "depth"])
    assert found(cells, range="per-image") == (16, torch.int16, ["range", "depth"])
    assert found(pale) == ("auto", torch.uint8, [])
    assert found(pale, range=[0, 9]) == ("auto", torch.uint8, ["range"])
    assert found(pale, depth=16) == (16, torch.int16, ["depth"])
    for wrong in (12, "deep", True):
        with pytest.raises(ValueError, match="depth"):
            settings(pale, depth=wrong)


def test_mean_and_deviation_are_those_of_the_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "cells"
    folder.mkdir()
    images = [np.clip(DRAW.normal(30000, 40, (18, 18)), 0, 65535).astype(np.uint16) for _ in range(6)]
    for k, x in enumerate(images):
        (folder / f"{k}.png").write_bytes(png(x, 0))
    given = settings(folder, normalize="measured", range=[0, 65535])
    normal = measured(given, open_pretraining(given.data, 0))[0].augment.normalize
    assert normal.std[0] == pytest.approx(np.stack(images).std() / 65535, abs=2e-5)  # a sixth of a level of 8 bits


def test_what_python_gives_is_read_in_the_run_s_depth() -> None:
    data = DataSettings(channels=1, range=(0, 65535), depth=16)
    x = dim(20, 20)
    read = GivenImages([x, PALE, Image.fromarray(PALE)], data).read
    assert np.abs(read(0)[0].numpy() - levels(x, 0, 65535)[:, :, 0] * WHITE).max() <= HALF
    assert torch.equal(read(1), read(2))
    assert read(1).dtype == torch.int16
    floats = GivenImages([PALE.astype(np.float32) / 255], DataSettings(depth=16)).read(0)
    assert np.abs(floats.permute(1, 2, 0).numpy() - PALE / 255 * WHITE).max() <= HALF


def test_a_picture_of_them_is_one_of_8_bits() -> None:
    deep = torch.from_numpy(module.in_depth(PALE, 16)).permute(2, 0, 1)
    assert sheet.tile("", deep).rgb == PALE.tobytes() == sheet.tile("", torch.from_numpy(PALE).permute(2, 0, 1)).rgb
