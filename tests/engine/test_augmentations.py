"""The sheet: a picture of the views that pretraining's first epoch gets."""

from pathlib import Path

import pytest
from PIL import Image

from ssl_cli.engine.augmentations import augmentation_sheet
from ssl_cli.errors import ResourceError
from tests.engine.toy_run import toy_settings


def test_writes_a_picture_that_repeats_itself(tmp_path: Path) -> None:
    first, second = tmp_path / "new" / "a.png", tmp_path / "b.png"
    event = augmentation_sheet(toy_settings(), first, images=3, views=4)
    augmentation_sheet(toy_settings(), second, images=3, views=4)
    assert event.name == "sheet"
    assert event.result["path"] == str(first)
    assert (event.result["images"], event.result["views"], event.result["order"][0]) == (3, 4, "crop")
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.width > picture.height > 3 * 16


def test_fewer_images_than_asked(tmp_path: Path) -> None:
    assert augmentation_sheet(toy_settings(images=2), tmp_path / "a.png", images=8).result["images"] == 2


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError):
        augmentation_sheet(toy_settings(), tmp_path / "file" / "a.png")
