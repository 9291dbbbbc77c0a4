"""MoCo's queue: the newest K keys, first in, first out."""

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """Store the newest K keys, unit rows of D numbers, in the buffer `rows` `(K,D)`.

    The rows start random, so that the loss rises while real keys replace them. Any number of keys may be pushed, also
    more than K (the newest K remain) and numbers that do not divide K.
    """

    rows: Tensor
    cursor: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", nn.functional.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Write keys `(N,D)` over the oldest rows.

        Note:
            The cursor is a tensor on the device, so that no push waits for the device.
        """
        size = len(self.rows)
        newest = keys[-size:]
        start = self.cursor + (len(keys) - len(newest))
        slots = (start + torch.arange(len(newest), device=self.rows.device)) % size
        self.rows.index_copy_(0, slots, newest.to(self.rows.dtype))
        self.cursor.copy_((self.cursor + len(keys)) % size)
