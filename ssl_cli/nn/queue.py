"""MoCo's queue: the newest K keys, first in, first out."""

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """Store the newest K keys, unit rows of D numbers, in the buffer `rows` `(K,D)`.

    The rows start random, so that the loss rises while real keys replace them. Any number of keys may be pushed, also
    more than K (the newest K remain) and numbers that do not divide K.

    Once `store_groups` was called, the buffer `group`, int64 `(K,)`, has the group of each key; -1 of a random row.
    """

    rows: Tensor
    cursor: Tensor
    group: Tensor | None

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("rows", nn.functional.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.int64))
        self.register_buffer("group", None)

    def store_groups(self) -> None:
        """Store the group of each key from now on."""
        self.group = torch.full((len(self.rows),), -1, device=self.rows.device)

    @torch.no_grad()
    def push(self, keys: Tensor, group: Tensor | None = None) -> None:
        """Write keys `(N,D)`, and their groups `(N,)` if they are stored, over the oldest rows.

        Note:
            The cursor is a tensor on the device, so that no push waits for the device.
        """
        size = len(self.rows)
        newest = keys[-size:]
        start = self.cursor + (len(keys) - len(newest))
        slots = (start + torch.arange(len(newest), device=self.rows.device)) % size
        self.rows.index_copy_(0, slots, newest.to(self.rows.dtype))
        if self.group is not None and group is not None:
            self.group.index_copy_(0, slots, group[-size:])
        self.cursor.copy_((self.cursor + len(keys)) % size)
