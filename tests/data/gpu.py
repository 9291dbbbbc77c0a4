"""A GPU on a machine without one: its tensors cannot be combined with others, as a GPU's cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from ssl_cli.data.cache import Cache


class OnGPU(Tensor):
    """A tensor in GPU memory; `to_device` copies there, `cpu` and `to("cpu")` copy back."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = list(_tensors([*args, *(kwargs or {}).values()]))
        assert all(isinstance(x, OnGPU) for x in given), f"{func.__name__} of tensors on the GPU and others"
        found = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        back = func is Tensor.cpu or (func is Tensor.to and "cpu" in args)
        return found.as_subclass(Tensor) if back else found


def _tensors(args: Sequence[Any]) -> Iterator[Tensor]:
    for arg in args:
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, list | tuple):
            yield from _tensors(arg)


@contextmanager
def gpu() -> Iterator[torch.device]:
    """Within the block caches take this device for a GPU."""
    device, allocate = torch.device("cpu"), Cache._allocate

    def on_gpu(self: Cache, images: Any) -> Tensor | None:
        found = allocate(self, images)
        return found.as_subclass(OnGPU) if found is not None and self.on_gpu else found

    def to_rows_device(self: Cache, x: Tensor) -> Tensor:
        return x.as_subclass(OnGPU) if self.on_gpu else x

    with patch.object(Cache, "_allocate", on_gpu), patch.object(Cache, "_to_rows_device", to_rows_device):
        yield device
