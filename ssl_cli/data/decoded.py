"""Images in memory, for a set that is read again and again: as they were decoded, or as a network sees them."""

import threading

import torch
from torch import Tensor

from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.data.split import Subset


class Decoded(Subset):
    """Serve the images of a source, of which as many as fit are decoded once; errors as the source's.

    Args:
        source: the images.
        budget: bytes that decoded images may take.
    """

    def __init__(self, source: Source, budget: float) -> None:
        super().__init__(source, torch.arange(len(source)))
        self._images, self._left, self._lock = dict[tuple[int, int | None], Tensor](), budget, threading.Lock()

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Return image `index`; it is decoded if it is not in memory.

        Note:
            Runs in decode threads, so no torch operation is called.
        """
        if (found := self._images.get((index, cap))) is not None:
            return found
        image = self.source.read(index, cap)
        with self._lock:
            if image.nbytes <= self._left and (index, cap) not in self._images:
                self._images[index, cap] = image
                self._left -= image.nbytes
        return image


def decoded(source: Source, budget: float) -> Source:
    """Return the source with decoded images kept within a budget of bytes; one that holds all of them as it is."""
    return source if isinstance(source, BatchedSource) else Decoded(source, budget)


class Fitted(Subset):
    """Serve images of a source that are in memory, fitted to a network.

    Args:
        source: the images.
        indices: int64 `(M,)`, those that are fitted.
        images: `(M,C,S,S)`.
    """

    def __init__(self, source: Source, indices: Tensor, images: Tensor) -> None:
        super().__init__(source, indices)
        self.images = images

    def read_many(self, indices: Tensor) -> Tensor:
        """Return the images of int64 indices `(N,)`."""
        return self.images[indices]
