"""A few images to measure with, and what is seen on them."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.data.folder import of_paths
from ssl_cli.data.sample import median_side, read_sample
from ssl_cli.data.shapes import Shapes
from ssl_cli.errors import DataError


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([torch.full((3, 4, 4), k) for k in range(9)], "one colour"),
        ([torch.arange(48).view(3, 4, 4)] * 9, "the same"),
        ([torch.arange(48).view(3, 4, 4) + k for k in range(9)], ""),
        ([torch.zeros(3, 4, 4), None, torch.arange(48).view(3, 4, 4)], ""),
        ([None, None], ""),
    ],
)
def test_images_from_which_nothing_can_be_learned_are_warned_of(images: list[Tensor | None], words: str) -> None:
    class Images:
        name, labels = "images", torch.full((len(images),), -1)
        classes: tuple[str, ...] = ()

        def __len__(self) -> int:
            return len(images)

        def path(self, index: int) -> str:
            return str(index)

        def read(self, index: int, cap: int | None = None) -> Tensor:
            pixels = images[index]
            if pixels is None:
                raise DataError("it is damaged")
            return pixels.to(torch.uint8)

    sample = read_sample(Images(), 32)
    assert words in sample.nothing_to_learn
    assert bool(words) is bool(sample.nothing_to_learn)
    bad = [index for index, image in enumerate(images) if image is None]
    few = f"{len(bad)} of {len(images)} sampled images cannot be read, such as {bad[:1]}: it is damaged."
    assert sample.unreadable == (few.replace("[", "").replace("]", "") if bad else "")


def test_loading_the_decoder_is_no_part_of_the_time_of_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    now, cost = [0.0], [10.0]

    class Images:
        labels = torch.full((5,), -1)

        def __len__(self) -> int:
            return 5

        def path(self, index: int) -> str:
            return str(index)

        def read(self, index: int, cap: int | None = None) -> Tensor:
            now[0] += cost.pop() if cost else 0.25
            return torch.arange(48).view(3, 4, 4).to(torch.uint8)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert read_sample(Images(), 32).read_seconds == 0.25  # type: ignore[arg-type]


def test_neither_the_embedded_set_nor_noise_is_warned_of() -> None:
    assert read_sample(Shapes(64, 16, 0), 16).nothing_to_learn == ""
    assert read_sample(None, 16).noise
    assert read_sample(None, 16).nothing_to_learn == ""


def test_the_side_of_a_folder_s_images_is_read_from_their_headers(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (105, 65)).save(tmp_path / f"{number}.PNG")
    for number, shape in enumerate([(70, 80, 6), (6, 70, 80), (80, 70)]):
        np.save(tmp_path / f"{number}.npy", np.zeros(shape, np.uint8))
    whole = (tmp_path / "0.PNG").read_bytes()
    (tmp_path / "header.png").write_bytes(whole[:40])  # which names its size
    (tmp_path / "nothing.png").write_bytes(b"no picture")
    (tmp_path / "nothing.npy").write_bytes(b"no array")
    os.mkfifo(tmp_path / "pipe.png")  # which nobody writes to
    paths = sorted(map(str, tmp_path.iterdir()))
    assert median_side(of_paths("list", [path for path in paths if not path.endswith("npy")], [-1] * 6)) == 65
    assert (
        median_side(of_paths("list", [path for path in paths if path.endswith("npy")], [-1] * 4, channels=6), 6) == 70
    )
    assert median_side(of_paths("list", [str(tmp_path / "pipe.png")], [-1])) is None


def test_the_side_is_that_of_images_from_all_over_the_set() -> None:
    class Images(Shapes):
        def read(self, index: int, cap: int | None = None) -> Tensor:
            return torch.zeros(3, 8 if index < 600 else 90, 100, dtype=torch.uint8)

    assert median_side(Images(1000, 32, 0)) == 8
    assert median_side(Images(10_000, 32, 0)) == 90
