"""Precision and memory format: autocast, TF32 and the dtype of views."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def view_dtype(precision: str) -> torch.dtype:
    """Return the dtype of views: autocast would round them anyway, and they fill most of the memory."""
    return torch.bfloat16 if precision == "bf16" else torch.float32


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[None]]:
    """Return a factory of contexts in which matrix products run in `precision`; on a GPU float32 products use TF32.

    Note:
        Enter a new context for every forward pass: autocast caches the casts of weights, and casts that were made
        without a graph would cut off the gradient of the next pass.
    """

    @contextmanager
    def context() -> Iterator[None]:
        with tf32(device):
            if precision == "bf16":
                with torch.autocast(device.type, torch.bfloat16):
                    yield
            else:
                yield

    return context


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Allow TF32 in matrix products and convolutions of a GPU within the block; restore the setting afterwards.

    Note:
        Meant for networks and their gradient only: a loss divides by a small temperature, which amplifies rounding.
    """
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    backends = (cuda.matmul, cudnn.conv) if device.type == "cuda" else ()  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
