"""Images that are in memory already."""

import torch
from torch import Tensor


class Arrays:
    """A tensor of images as a source.

    Args:
        name: what the set is called in messages.
        images: uint8 `(N,C,H,W)`, gray or RGB.
        labels: int64 `(N,)`, an index into `classes`, or -1.
        classes: their names.
    """

    def __init__(self, name: str, images: Tensor, labels: Tensor, classes: tuple[str, ...] = ()) -> None:
        self.name, self.images, self.labels, self.classes = name, images, labels, classes

    def __len__(self) -> int:
        return len(self.images)

    def path(self, index: int) -> str:
        """What to call image `index`."""
        return f"{self.name}[{index}]"

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Image `index`, uint8 `(3,H,W)`; these sets are small, so there is nothing to cap."""
        return self.read_many(torch.tensor([index]))[0]

    def read_many(self, indices: Tensor) -> Tensor:
        """Images uint8 `(N,3,H,W)` of int64 indices `(N,)`."""
        images = self.images[indices]
        return images.expand(-1, 3, -1, -1).contiguous()
