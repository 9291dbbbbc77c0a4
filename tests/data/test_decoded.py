"""Images that are read again and again: decoded once as far as they fit, and the same as without."""

import pytest
import torch
from torch import Tensor

from ssl_cli.data.decoded import Decoded, decoded
from ssl_cli.data.loader import read_all
from ssl_cli.data.shapes import Shapes
from ssl_cli.data.split import Subset, subset
from ssl_cli.errors import DataError


class Counted(Subset):
    """Count how often each image is read; image 3 cannot be."""

    def __init__(self, count: int) -> None:
        super().__init__(Shapes(count, 8, 0, "train"), torch.arange(count))
        self.reads = [0] * count

    def read(self, index: int, cap: int | None = None) -> Tensor:
        self.reads[index] += 1
        if index == 3:
            raise DataError("it is damaged")
        return super().read(index, cap)


@pytest.mark.parametrize(("budget", "again"), [(1e9, 0), (5 * 3 * 64, 14), (0, 19)])
def test_images_that_fit_are_decoded_once(budget: float, again: int) -> None:
    source = Counted(20)
    kept = Decoded(source, budget)
    passes = [list(read_all(kept, batch=6, threads=1)) for _ in range(2)]
    assert source.reads[3] == 2
    assert sum(source.reads) == 19 + again + 2
    for first, second in zip(*passes, strict=True):
        assert torch.equal(torch.stack(list(first[0])), torch.stack(list(second[0])))
        assert torch.equal(first[2], second[2])
    assert torch.equal(kept.labels, source.labels)


def test_another_short_side_is_another_image() -> None:
    kept = Decoded(Counted(4), 1e9)
    assert kept.read(0, 8) is kept.read(0, 8)
    assert kept.read(0, 8) is not kept.read(0, 4)


def test_a_set_in_memory_is_left_as_it_is() -> None:
    images = subset(Shapes(8, 8, 0, "train"), torch.arange(4))
    assert decoded(images, 1e9) is images
    assert isinstance(decoded(Counted(4), 1e9), Decoded)
