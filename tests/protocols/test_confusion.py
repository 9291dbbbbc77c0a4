"""The picture of a confusion matrix: cells of the right shade at the right place, at any number of classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.protocols.confusion import DARK, LARGEST_CELL, SMALLEST_CELL, write_confusion
from ssl_cli.protocols.knn import knn_eval
from ssl_cli.transfer.tally import MOST_CLASSES


def matrix(classes: int) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Every class is taken for the next one, the last for itself."""
    names = [f"class {number}" for number in range(classes)]
    counts = np.diag([4] * (classes - 1), 1)
    counts[-1, -1] = 4
    per_class = {name: {"images": 4.0, "top1": float(name == names[-1])} for name in names}
    return {"classes": names, "counts": counts.tolist()}, per_class


def written(folder: Path, classes: int) -> np.ndarray:
    write_confusion(folder / "new" / "c.png", *matrix(classes), 1 / classes)
    return np.array(Image.open(folder / "new" / "c.png"))


@pytest.mark.parametrize("classes", [2, 10, 40, 300])
def test_each_cell_has_its_shade(tmp_path: Path, classes: int) -> None:
    pixels = written(tmp_path, classes)
    dark = (pixels == DARK).all(2)
    rows, columns = np.flatnonzero(dark.any(1)), np.flatnonzero(dark.any(0))
    cell = round((rows[-1] - rows[0] + 1) / classes)
    assert SMALLEST_CELL <= cell <= LARGEST_CELL
    assert abs((columns[-1] - columns[0] + 1) - cell * (classes - 1)) <= cell * 0.1  # nothing is in the first column
    for number in range(classes - 1):  # a corner of the cell, which no number covers
        assert dark[rows[0] + number * cell, columns[0] + number * cell]
    assert dark.sum() <= cell * cell * classes


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"up to {MOST_CLASSES:,} are drawn"):
        write_confusion(tmp_path / "c.png", {"classes": ["x"] * 1001, "counts": []}, {}, 0.5)
    assert not (tmp_path / "c.png").exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="Cannot write"):
        write_confusion(tmp_path / "file" / "c.png", *matrix(3), 0.3)


def test_it_is_not_written_among_the_images(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="among the images"):
        list(knn_eval(str(run), str(tmp_path), confusion=tmp_path / "cats" / "c.png", device="cpu"))
