"""A few images to measure with, and what is seen on them."""

import pytest
import torch
from torch import Tensor

from ssl_cli.data.sample import read_sample
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

    found = read_sample(Images(), 32).nothing_to_learn
    assert words in found
    assert bool(words) is bool(found)


def test_neither_the_embedded_set_nor_noise_is_warned_of() -> None:
    assert read_sample(Shapes(64, 16, 0), 16).nothing_to_learn == ""
    assert read_sample(None, 16).noise
    assert read_sample(None, 16).nothing_to_learn == ""
