"""What is measured of a set: one range of numbers for all of its files, mean and deviation of its channels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.config.tree import Settings
from ssl_cli.data import measured as module
from ssl_cli.data.measured import measured
from ssl_cli.data.shapes import Shapes
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_pretraining
from tests.data.files import anymap, npy, png, tiff

NOISE = np.random.default_rng(0).integers(0, 4096, (16, 16))


def settings(source: Path | str, depth: object = 8, **data: object) -> Settings:
    table = {"source": str(source), "size": 8, "depth": depth, **data}
    return Settings.model_validate({"method": {"name": "simclr"}, "data": table})


def seen(given: Settings) -> tuple[Settings, Source, list[str]]:
    source = open_pretraining(given.data, 0)
    found, choices = measured(given, source)
    words = [f"{choice.name}: {choice.value} ({choice.reason})" for choice in choices]
    return found, source, [line for line in words if line != "depth: 8 bits (given)"]


def microscope(folder: Path) -> Path:
    """Twelve bits in 16, in four formats: eight dim images, and one with all values."""
    folder.mkdir(parents=True)
    dim, bright = (NOISE // 8).astype(np.uint16), NOISE.astype(np.uint16)
    bright[0, 0], bright[0, 1] = 0, 4095
    dim[0, 0] = 0
    for k, (data, suffix) in enumerate([(tiff(dim), "tif"), (png(dim, 0), "png"), (anymap(dim, 511), "pgm")] * 2):
        (folder / f"{k}.{suffix}").write_bytes(data)
    (folder / "bright.tif").write_bytes(tiff(bright))
    return folder


def test_a_set_has_one_range_and_dim_images_stay_dim_in_every_format(tmp_path: Path) -> None:
    given = settings(microscope(tmp_path / "cells"))
    found, source, words = seen(given)
    assert found.data.value_range == pytest.approx((0, 4095))
    assert words == ["range: 0 to 4095 (16-bit numbers in 7 of 7 sampled files; black and white of the whole set)"]
    wanted = (NOISE // 8 * (255 / 4095)).round()
    wanted[0, 0] = 0
    read = {source.path(k): source.read(k)[0].numpy() for k in range(len(source))}
    for path, image in read.items():
        assert np.abs(image - wanted).max() <= 1 or "bright" in path
    again = open_pretraining(found.data, 0)  # as a run that is resumed, or evaluated, opens it
    assert all(np.array_equal(again.read(k)[0].numpy(), read[again.path(k)]) for k in range(len(again)))


def test_8_bits_need_no_range_and_a_given_one_is_kept(tmp_path: Path) -> None:
    Image.fromarray(NOISE.astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.npy").write_bytes(npy(np.stack([NOISE] * 3, -1).astype(np.uint8)))
    assert seen(settings(tmp_path))[0].data.range == "auto"
    assert seen(settings(tmp_path))[2] == []
    found, source, words = seen(settings(microscope(tmp_path / "cells"), range=[0, 65535]))
    assert (found.data.value_range, words) == ((0.0, 65535.0), ["range: 0 to 65535 (given)"])
    assert max(int(source.read(k).max()) for k in range(len(source))) == 16
    found, source, words = seen(settings(tmp_path / "cells", range="per-image"))
    assert (found.data.range, words) == ("per-image", ["range: each image's own (given)"])
    assert [int(source.read(k).max()) for k in range(len(source))] == [255] * 7
    assert seen(Settings.model_validate({"method": {"name": "simclr"}}))[2] == []


def test_the_range_is_that_of_files_evenly_spaced_and_bad_ones_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(9):
        x = np.full((4, 4), 100 * k, np.uint16)
        (tmp_path / f"{k}.tif").write_bytes(tiff(x))
    (tmp_path / "4.tif").write_bytes(b"II*\0 damaged")
    (tmp_path / "8.tif").write_bytes(tiff(np.full((4, 4), np.nan, "f4")))
    monkeypatch.setattr(module, "FILES", 5)
    assert seen(settings(tmp_path))[0].data.value_range == pytest.approx((0, 600))
    assert "in 3 of 5 sampled files" in seen(settings(tmp_path))[2][0]
    assert seen(settings(tmp_path, limit=3))[0].data.value_range == pytest.approx((0, 200))
    monkeypatch.setattr(module, "MOST_PIXELS", 17)
    assert seen(settings(tmp_path))[0].data.value_range == pytest.approx((0, 200))
    assert "in 2 of 2 sampled files" in seen(settings(tmp_path))[2][0]


def test_the_mean_and_deviation_are_those_of_the_images(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    images = [draw.integers(0, 200, (12, 9 + k, 3), dtype=np.uint8) for k in range(5)]
    for k, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{k}.png")
    found, _, words = seen(settings(tmp_path, normalize="measured"))
    means = np.stack([image.reshape(-1, 3).mean(0) / 255 for image in images])
    squares = np.stack([((image.reshape(-1, 3) / 255) ** 2).mean(0) for image in images])
    assert np.allclose(found.augment.normalize.mean, means.mean(0), atol=1e-5)
    assert np.allclose(found.augment.normalize.std, np.sqrt(squares.mean(0) - means.mean(0) ** 2), atol=1e-5)
    assert words == [
        "normalised by: mean 0.376 0.402 0.374, standard deviation 0.225 0.226 0.227 (measured on 5 of 5 images)"
    ]
    assert found.views.order[-1] == "normalize"
    assert seen(settings(tmp_path))[0].augment.normalize.mean == (0.485, 0.456, 0.406)


def test_any_number_of_channels_is_normalised(tmp_path: Path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.npy").write_bytes(npy(np.stack([NOISE.astype(np.uint16) * c for c in (0, 1, 2, 4, 8)], -1)))
    found, source, words = seen(settings(tmp_path, normalize="measured", channels=5))
    assert len(words) == 2
    pixels = torch.stack([source.read(k) for k in range(3)]).double() / 255
    assert np.allclose(found.augment.normalize.mean, pixels.mean((0, 2, 3)), atol=1e-5)
    assert found.augment.normalize.std[0] == round(1 / 255, 5)
    assert "normalize" in found.views.order
    small = {"normalize": "measured", "channels": 1, "images": 300, "size": 8}
    shapes = Settings.model_validate({"method": {"name": "simclr"}, "data": small})
    gray, choices = measured(shapes, open_pretraining(shapes.data, 0))
    assert len(gray.augment.normalize.mean) == 1
    assert "256 of 300" in choices[0].reason
    assert measured(shapes, None) == (shapes, ())
    assert measured(settings("shapes"), Shapes(8, 8, 0)) == (settings("shapes"), ())
    assert measured(settings("shapes", "auto"), Shapes(8, 8, 0)) == (settings("shapes", "auto"), ())


@pytest.mark.parametrize("given", [[5, 5], [9, 1], [0, float("inf")], [1], "12 bits", [0, 1e300]])
def test_what_is_no_range_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="range"):
        settings("shapes", range=given)
