"""Decoded images kept: one tensor where their sizes agree, in memory or on the card, else as many as memory holds."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ssl_cli.objective import to_device

Policy = Literal["auto", "ram", "none"]


class Cache:
    """Images by index; what it holds never changes what is read, only how soon.

    Args:
        count: images in the set.
        policy: `ram` keeps everything, `none` nothing, `auto` what fits `budget`.
        budget: bytes of memory.
        card: where images of one size are kept if, with `auto`, all of them fit its bytes.
        card_bytes: of it.
    """

    def __init__(
        self,
        count: int,
        policy: Policy = "auto",
        budget: float = 1e9,
        card: torch.device | None = None,
        card_bytes: int = 0,
    ) -> None:
        self.budget = {"auto": budget, "ram": math.inf, "none": 0.0}[policy]
        self.has = torch.zeros(count, dtype=torch.bool)
        self.on_card = False
        self._card = card if policy == "auto" else None
        self._card_bytes = card_bytes
        self._rows: Tensor | None = None
        self._single: dict[int, Tensor] = {}
        self._used = 0
        self._empty = True

    def take(self, indices: Tensor) -> Tensor | list[Tensor]:
        """The images of int64 indices `(M,)`, all of them held: `(M,3,H,W)`, or a list."""
        if self._rows is not None:
            return self._rows[self._there(indices)]
        return joined([self._single[index] for index in indices.tolist()])

    def put(self, indices: Tensor, images: Tensor | Sequence[Tensor]) -> None:
        """Keep the images of int64 indices `(M,)`, where there is room."""
        if not len(indices) or not (self.budget or self._card):
            return
        if self._empty:
            self._empty = False
            self._rows = self._room(images)
        if self._rows is not None and isinstance(images, Tensor) and images.shape[1:] == self._rows.shape[1:]:
            self._rows[self._there(indices)] = self._there(images)
            self.has[indices] = True
            return
        for index, image in zip(indices.tolist(), images, strict=True):
            self._put(index, image)

    def _room(self, images: Tensor | Sequence[Tensor]) -> Tensor | None:
        """Room for all images, if they are like these first ones: on the card, in memory, or not at all."""
        whole = images[0].numel() * len(self.has)
        self.on_card = self._card is not None and isinstance(images, Tensor) and whole <= self._card_bytes
        if not self.on_card and whole > self.budget:
            return None
        return torch.empty(
            len(self.has), *images[0].shape, dtype=torch.uint8, device=self._card if self.on_card else None
        )

    def _there(self, x: Tensor) -> Tensor:
        """A tensor beside the images."""
        return to_device(x, self._card if self.on_card else None)

    def _put(self, index: int, image: Tensor) -> None:
        if self._rows is not None and image.shape == self._rows.shape[1:]:
            self._rows[index] = self._there(image)
        else:
            self._break_up()
            if self._used + image.numel() > self.budget or index in self._single:
                return
            alone = image.untyped_storage().nbytes() == image.numel()
            self._single[index] = image if alone else image.clone()  # a row of a batch would keep the batch alive
            self._used += image.numel()
        self.has[index] = True

    def _break_up(self) -> None:
        """Sizes differ after all: what is held moves, from the card as far as there is memory for it."""
        if self._rows is None:
            return
        size, held = self._rows[0].numel(), self.has.nonzero()[:, 0]
        kept = held[: int(min(len(held), self.budget / size))]
        self._single = {index: self._rows[index].to("cpu", copy=True) for index in kept.tolist()}
        self.has[held[len(kept) :]] = False
        self._used = len(kept) * size
        self._rows, self.on_card = None, False


def joined(images: list[Tensor]) -> Tensor | list[Tensor]:
    """One tensor `(M,3,H,W)` where sizes agree, else the list."""
    return torch.stack(images) if len({image.shape for image in images}) == 1 else images
