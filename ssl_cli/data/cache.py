"""Decoded images kept in memory: one tensor where their sizes agree, else as many single ones as the budget holds."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Policy = Literal["auto", "ram", "none"]


class Cache:
    """Images by index; what it holds never changes what is read, only how soon.

    Args:
        count: images in the set.
        policy: `ram` keeps everything, `none` nothing, `auto` what fits `budget`.
        budget: bytes.
    """

    def __init__(self, count: int, policy: Policy = "auto", budget: float = 1e9) -> None:
        self.budget = {"auto": budget, "ram": math.inf, "none": 0.0}[policy]
        self.has = torch.zeros(count, dtype=torch.bool)
        self._rows: Tensor | None = None
        self._single: dict[int, Tensor] = {}
        self._used = 0
        self._empty = True

    def take(self, indices: Tensor) -> Tensor | list[Tensor]:
        """The images of int64 indices `(M,)`, all of them held: `(M,3,H,W)`, or a list."""
        if self._rows is not None:
            return self._rows[indices]
        return joined([self._single[index] for index in indices.tolist()])

    def put(self, indices: Tensor, images: Tensor | Sequence[Tensor]) -> None:
        """Keep the images of int64 indices `(M,)`, where there is room."""
        if not len(indices) or not self.budget:
            return
        if self._empty:
            self._empty = False
            if images[0].numel() * len(self.has) <= self.budget:
                self._rows = torch.empty(len(self.has), *images[0].shape, dtype=torch.uint8)
        if self._rows is not None and isinstance(images, Tensor) and images.shape[1:] == self._rows.shape[1:]:
            self._rows[indices] = images
            self.has[indices] = True
            return
        for index, image in zip(indices.tolist(), images, strict=True):
            self._put(index, image)

    def _put(self, index: int, image: Tensor) -> None:
        if self._rows is not None and image.shape == self._rows.shape[1:]:
            self._rows[index] = image
        else:
            self._break_up()
            if self._used + image.numel() > self.budget or index in self._single:
                return
            alone = image.untyped_storage().nbytes() == image.numel()
            self._single[index] = image if alone else image.clone()  # a row of a batch would keep the batch alive
            self._used += image.numel()
        self.has[index] = True

    def _break_up(self) -> None:
        """Sizes differ after all."""
        if self._rows is not None:
            self._single = {index: self._rows[index].clone() for index in self.has.nonzero()[:, 0].tolist()}
            self._used = len(self._single) * self._rows[0].numel()
            self._rows = None


def joined(images: list[Tensor]) -> Tensor | list[Tensor]:
    """One tensor `(M,3,H,W)` where sizes agree, else the list."""
    return torch.stack(images) if len({image.shape for image in images}) == 1 else images
