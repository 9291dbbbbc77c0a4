"""Read a few images of a data set, to measure with."""

import contextlib
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_cli.data.loader import cap_for
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.errors import DataError

IMAGES = 32


@dataclass(frozen=True)
class Sample:
    """A few images of the data set; seconds to read one and its bytes, on average."""

    images: list[Tensor]
    read_seconds: float
    image_bytes: float


def read_sample(source: Source | None, size: int, channels: int = 3) -> Sample:
    """Read a few images as the loader would for views of `size` pixels; noise where none can be read."""
    images: list[Tensor] = []
    start = time.perf_counter()
    if source is not None and len(source):
        indices = torch.linspace(0, len(source) - 1, min(IMAGES, len(source))).long()
        if isinstance(source, BatchedSource):
            images = list(source.read_many(indices))
        else:
            for index in indices.tolist():
                with contextlib.suppress(DataError):
                    images.append(source.read(index, cap_for(size)))
    seconds = time.perf_counter() - start
    if not images:
        side = cap_for(size)
        noise = torch.arange(channels * side**2).view(channels, side, side).to(torch.uint8)
        return Sample([noise] * IMAGES, 0.0, noise.numel())
    return Sample(images, seconds / len(images), sum(image.numel() for image in images) / len(images))
