"""A run and a set of photographs that the tests of vectors share."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="package")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five images, of two sizes, one name that is not ASCII, one with a comma."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (folder / label).mkdir()
        for name in ("a, b", "ü", "c", "d", "e"):
            shape = (20, 16, 3) if name == "c" else (16, 24, 3)
            Image.fromarray(draw.integers(0, 256, shape, np.uint8)).save(folder / label / f"{name}.png")
    return folder
