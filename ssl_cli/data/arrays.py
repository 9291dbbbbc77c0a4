"""A data set whose images are in memory."""

import torch
from torch import Tensor


class Arrays:
    """Serve a tensor of images as a source.

    Args:
        name: of the set, for messages.
        images: uint8 `(N,C,H,W)`, gray or RGB.
        labels: int64 `(N,)`, an index into `classes`, or -1.
        classes: their names.
    """

    def __init__(self, name: str, images: Tensor, labels: Tensor, classes: tuple[str, ...] = ()) -> None:
        self.name, self.images, self.labels, self.classes = name, images, labels, classes

    def __len__(self) -> int:
        return len(self.images)

    def path(self, index: int) -> str:
        """Return the name of image `index`, for messages."""
        return f"{self.name}[{index}]"

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Return image `index`, uint8 `(3,H,W)`; `cap` is ignored, for these sets hold small images."""
        return self.read_many(torch.tensor([index]))[0]

    def read_many(self, indices: Tensor) -> Tensor:
        """Return the images of int64 indices `(N,)`, uint8 `(N,3,H,W)`."""
        images = self.images[indices]
        return images.expand(-1, 3, -1, -1).contiguous()
