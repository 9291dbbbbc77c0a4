"""Memory for a batch of views in large pages: to be given small ones takes longer than to fill them."""

from __future__ import annotations

import contextlib
import math
import mmap

import torch
from torch import Tensor

LARGE = 32 << 20
"""Bytes from which on the C library returns what is freed to the system, so that each batch's pages are new ones."""


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """As `torch.empty`; where there is much, on a CPU, and a system that has them, in pages of megabytes."""
    size = math.prod(shape) * dtype.itemsize
    if device.type == "cpu" and size >= LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # whatever stands against it
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_HUGEPAGE)
            return torch.frombuffer(memory, dtype=dtype).view(shape)  # which frees the memory with its last tensor
    return torch.empty(shape, dtype=dtype, device=device)
