"""Read a few images of a data set, to measure with."""

import contextlib
import time
from dataclasses import dataclass
from statistics import fmean, median

import torch
from torch import Tensor

from ssl_cli.data.decode import size_of
from ssl_cli.data.loader import cap_for
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.data.split import evenly, files_of
from ssl_cli.errors import DataError
from ssl_cli.names import shown

IMAGES = 32


@dataclass(frozen=True)
class Sample:
    """A few images of the data set; seconds to read one and its bytes, on average; `noise` if none could be read.

    `in_memory` says whether they are so already, all of them; `bad` names those that could not be read, with reasons.
    """

    images: list[Tensor]
    read_seconds: float
    image_bytes: float
    noise: bool = False
    in_memory: bool = False
    bad: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What there is to warn of."""
        return tuple(filter(None, (self.unreadable, self.nothing_to_learn)))

    @property
    def unreadable(self) -> str:
        """A warning where images cannot be read, with an example; else empty."""
        if not self.bad:
            return ""
        sampled = len(self.bad) + (0 if self.noise else len(self.images))
        return f"{len(self.bad)} of {sampled} sampled images cannot be read, such as {self.bad[0]}."

    @property
    def nothing_to_learn(self) -> str:
        """A warning where no image has more than one colour, or all are equal; else empty."""
        count = f"All of {len(self.images)} sampled images are"
        if self.noise:
            return ""
        if all(bool((x == x[:, :1, :1]).all()) for x in self.images):
            return f"{count} of one colour each: there is nothing to learn."
        if len(self.images) > 1 and all(torch.equal(x, self.images[0]) for x in self.images):
            return f"{count} the same: there is nothing to learn."
        return ""


def read_sample(source: Source | None, size: int, channels: int = 3) -> Sample:
    """Read a few images as the loader would for views of `size` pixels; noise where none can be read.

    Note:
        The first read has no part in the time, where there are others: it may also load the decoder, which takes a
        hundred times as long as a small JPEG.
    """
    images, bad, times = list[Tensor](), list[str](), list[float]()
    if source is not None and len(source):
        indices, start = evenly(len(source), IMAGES), time.perf_counter()
        if isinstance(source, BatchedSource):
            images = list(source.read_many(indices))
            times = [(time.perf_counter() - start) / len(images)]
        else:
            for index in indices.tolist():
                start = time.perf_counter()
                try:
                    images.append(source.read(index, cap_for(size)))
                except DataError as error:
                    bad.append(f"{shown(source.path(index))}: {error.message}")
                times.append(time.perf_counter() - start)
    if not images:
        side = cap_for(size)
        noise = torch.arange(channels * side**2).view(channels, side, side).to(torch.uint8)
        return Sample([noise] * IMAGES, 0.0, noise.nbytes, noise=True, bad=tuple(bad))
    mean = sum(image.nbytes for image in images) / len(images)
    return Sample(images, fmean(times[1:] or times), mean, in_memory=isinstance(source, BatchedSource), bad=tuple(bad))


def median_side(source: Source, channels: int = 3) -> float | None:
    """Return the median short side in pixels of a few images, from the headers of files; None if none can be read."""
    sides = []
    for index in evenly(len(source), IMAGES).tolist():
        files, place = files_of(source, index)
        with contextlib.suppress(DataError):
            stored = hasattr(files, "stored")
            size = size_of(files.stored(place), channels) if stored else source.read(index).shape[1:]
            sides.append(min(size))
    return median(sides) if sides else None
