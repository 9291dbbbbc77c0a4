"""Pictures much larger than the network's are evaluated as if they were resized once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.api.images import GivenImages
from ssl_cli.augment import evaluation
from ssl_cli.data.decode import decode
from ssl_cli.engine.evaluation.features import encode
from tests.engine.toy_run import toy_settings

SIDE = 32


@pytest.mark.parametrize("form", ["jpg", "png"])
@pytest.mark.parametrize("sides", [(500, 375), (1200, 800)])
def test_a_large_picture_is_encoded_as_resized_once(tmp_path: Path, sides: tuple[int, int], form: str) -> None:
    settings, picture = toy_settings(size=SIDE), tmp_path / f"picture.{form}"
    draw = np.random.default_rng(0)
    noise = Image.fromarray(draw.integers(0, 256, (60, 80, 3), np.uint8)).resize(sides, Image.Resampling.BILINEAR)
    noise.save(picture, quality=95)
    once = evaluation.fit([decode(picture)], SIDE, settings.views).flatten(1)
    given = GivenImages(picture, settings.data)
    found = encode({"x": lambda x: x.flatten(1)}, given, settings, device=torch.device("cpu")).h["x"]
    assert (found - once).abs().mean().item() * 255 < 0.5


@pytest.mark.parametrize("size", [32, 96, 224, 2000])
def test_images_that_are_read_at_once_are_256_mib_at_most(size: int) -> None:
    side, count = evaluation.largest_side(size), evaluation.images_at_once(size, 3)
    assert side >= 6 * size
    assert count == 1 or count * side * (side * 4 // 3) * 3 <= 2**28
