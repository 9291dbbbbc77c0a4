"""Random images to compare two implementations on."""

import torch
from torch import Tensor

from ssl_cli.formats.request import FLOAT

BATCHES = (1, 2, 5)


def random_batches(size: int, channels: int, input_kind: str, *, dynamic_size: bool = False) -> list[Tensor]:
    """Make noise at several batch sizes; as uint8 also in several shapes: of the network's size, larger, smaller.

    With `dynamic_size` images as they are fitted have several shapes, too, none smaller than the network's.
    """
    draw = torch.Generator().manual_seed(size)
    if input_kind == FLOAT and dynamic_size:
        shapes = [(1, size, size), (2, size + 7, 2 * size), (5, 2 * size - 3, size + 1)]
        return [torch.rand(n, channels, h, w, generator=draw) for n, h, w in shapes]
    if input_kind == FLOAT:
        return [torch.rand(count, channels, size, size, generator=draw) for count in BATCHES]
    one, few, many = BATCHES
    larger, smaller = (few, 2 * size + 1, 3 * size - 2), (many, size // 2 + 1, size)
    shapes = [(one, size, size), larger, smaller, (one, 2 * size, size + 1)]
    return [torch.randint(256, (n, h, w, channels), dtype=torch.uint8, generator=draw) for n, h, w in shapes]
