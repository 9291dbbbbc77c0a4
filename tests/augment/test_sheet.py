"""The contact sheet: where everything lies, and that it is written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.augment.sheet import MARGIN, PAPER, contact_sheet, save_png
from ssl_cli.config.augment import AugmentSettings

from .pictures import batch, pictures


def test_rows_columns_and_margins() -> None:
    images = pictures(3, 32, 32)
    views = [images / 255, 1 - images / 255]
    sheet = contact_sheet(images, views, AugmentSettings())
    pitch = 96 + MARGIN
    assert sheet.dtype == torch.uint8
    assert sheet.shape == (3, 3 * pitch + MARGIN, 3 * pitch + MARGIN)
    assert (sheet[:, :MARGIN] == PAPER).all()
    enlarged = images.repeat_interleave(3, 2).repeat_interleave(3, 3)
    for row in range(3):
        top = MARGIN + row * pitch
        for column, expected in enumerate((enlarged[row], enlarged[row], 255 - enlarged[row])):
            left = MARGIN + column * pitch
            assert torch.equal(sheet[:, top : top + 96, left : left + 96], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_ragged_and_gray_originals(channels: int) -> None:
    images = [*pictures(1, 40, 80, channels), *pictures(1, 300, 100, channels)]
    views = Pipeline(AugmentSettings(), 48, seed=0)(batch(images), views=4)
    sheet = contact_sheet(images, views, AugmentSettings())
    assert sheet.shape == (3, 2 * (96 + MARGIN) + MARGIN, 5 * (96 + MARGIN) + MARGIN)


def test_normalisation_is_undone() -> None:
    images = pictures(2, 32, 32)
    plain, normalised = AugmentSettings(order=("crop",)), AugmentSettings(order=("crop", "normalize"))
    sheets = [contact_sheet(images, Pipeline(s, 32, seed=0)(batch(images)), s).int() for s in (plain, normalised)]
    assert (sheets[0] - sheets[1]).abs().max() <= 1


def test_png_holds_the_picture(tmp_path: Path) -> None:
    picture = pictures(1, 20, 30)[0]
    save_png(picture, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as file:
        assert torch.equal(torch.from_numpy(np.array(file)).permute(2, 0, 1), picture)
