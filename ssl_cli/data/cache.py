"""A cache of decoded images: one tensor if all sizes are equal, in GPU memory or RAM, else as many as RAM holds."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ssl_cli.objective import to_device

Policy = Literal["auto", "ram", "none"]


class Cache:
    """Store decoded images by index.

    Args:
        count: images in the set.
        policy: `ram` stores all images, `none` none, `auto` as many as fit into `budget`.
        budget: bytes of RAM.
        gpu: device that stores the images if, with `auto`, all are of one size and fit into `gpu_bytes`; None: RAM.
        gpu_bytes: bytes of its memory.

    Attributes:
        has: bool `(count,)`, the images that are stored.
        on_gpu: whether they are in GPU memory.
    """

    def __init__(
        self,
        count: int,
        policy: Policy = "auto",
        budget: float = 1e9,
        gpu: torch.device | None = None,
        gpu_bytes: int = 0,
    ) -> None:
        self.budget = {"auto": budget, "ram": math.inf, "none": 0.0}[policy]
        self.has = torch.zeros(count, dtype=torch.bool)
        self.on_gpu = False
        self._gpu = gpu if policy == "auto" else None
        self._gpu_bytes = gpu_bytes
        self._rows: Tensor | None = None
        self._single: dict[int, Tensor] = {}
        self._used = 0
        self._empty = True

    def take(self, indices: Tensor) -> Tensor | list[Tensor]:
        """Return the images of int64 indices `(M,)`, all of which must be stored: `(M,C,H,W)`, or a list."""
        if self._rows is not None:
            return self._rows[self._to_rows_device(indices)]
        return joined([self._single[index] for index in indices.tolist()])

    def put(self, indices: Tensor, images: Tensor | Sequence[Tensor]) -> None:
        """Store the images of int64 indices `(M,)`, as far as there is room."""
        if not len(indices) or not (self.budget or self._gpu):
            return
        if self._empty:
            self._empty = False
            self._rows = self._allocate(images)
        if self._rows is not None and isinstance(images, Tensor) and images.shape[1:] == self._rows.shape[1:]:
            self._rows[self._to_rows_device(indices)] = self._to_rows_device(images)
            self.has[indices] = True
            return
        for index, image in zip(indices.tolist(), images, strict=True):
            self._put(index, image)

    def _allocate(self, images: Tensor | Sequence[Tensor]) -> Tensor | None:
        """Allocate memory for all images, if of these first ones' size, on the GPU or in RAM; None if too large."""
        whole = images[0].nbytes * len(self.has)
        self.on_gpu = self._gpu is not None and isinstance(images, Tensor) and whole <= self._gpu_bytes
        if not self.on_gpu and whole > self.budget:
            return None
        return torch.empty(
            len(self.has), *images[0].shape, dtype=images[0].dtype, device=self._gpu if self.on_gpu else None
        )

    def _to_rows_device(self, x: Tensor) -> Tensor:
        """Copy a tensor to the device of the stored images."""
        return to_device(x, self._gpu if self.on_gpu else None)

    def _put(self, index: int, image: Tensor) -> None:
        if self._rows is not None and image.shape == self._rows.shape[1:]:
            self._rows[index] = self._to_rows_device(image)
        else:
            self._split()
            if self._used + image.nbytes > self.budget or index in self._single:
                return
            owns_memory = image.untyped_storage().nbytes() == image.nbytes
            self._single[index] = image if owns_memory else image.clone()  # a row would keep its whole batch alive
            self._used += image.nbytes
        self.has[index] = True

    def _split(self) -> None:
        """Replace the tensor of all images by single ones in RAM, as many as fit, because another size has come."""
        if self._rows is None:
            return
        size, stored = self._rows[0].nbytes, self.has.nonzero()[:, 0]
        fitting = stored[: int(min(len(stored), self.budget / size))]
        self._single = {index: self._rows[index].to("cpu", copy=True) for index in fitting.tolist()}
        self.has[stored[len(fitting) :]] = False
        self._used = len(fitting) * size
        self._rows, self.on_gpu = None, False


def joined(images: list[Tensor]) -> Tensor | list[Tensor]:
    """Stack images of one size to `(M,C,H,W)`; return others as the list they are."""
    return torch.stack(images) if len({image.shape for image in images}) == 1 else images
