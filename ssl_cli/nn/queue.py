"""MoCo's queue: the newest K keys, first in, first out."""

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """K unit rows of width D; starts random, so early negatives are noise and the loss rises at first.

    Any number of keys may be pushed, also more than K (the newest K remain) and counts that do not divide K.
    """

    rows: Tensor
    cursor: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", nn.functional.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Write `(N,D)` keys over the oldest rows; the cursor stays on the device, so nothing waits for it."""
        size = len(self.rows)
        keep = keys[-size:]
        start = self.cursor + (len(keys) - len(keep))
        slots = (start + torch.arange(len(keep), device=self.rows.device)) % size
        self.rows.index_copy_(0, slots, keep.to(self.rows.dtype))
        self.cursor.copy_((self.cursor + len(keys)) % size)
