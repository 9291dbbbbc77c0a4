"""A card where there is none: its tensors meet no others, except as a card's do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from ssl_cli.data.cache import Cache


class OnCard(Tensor):
    """A tensor on the card; `sent` is the way there, `cpu` and `to("cpu")` the ways back."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        met = list(_tensors([*args, *(kwargs or {}).values()]))
        assert all(isinstance(x, OnCard) for x in met), f"{func.__name__} of tensors on the card and others"
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
def card() -> Iterator[torch.device]:
    """Within the block this device is a card for caches."""
    device, room = torch.device("cpu"), Cache._room

    def card_s(self: Cache, images: Any) -> Tensor | None:
        found = room(self, images)
        return found.as_subclass(OnCard) if found is not None and self.on_card else found

    def there(self: Cache, x: Tensor) -> Tensor:
        return x.as_subclass(OnCard) if self.on_card else x

    with patch.object(Cache, "_room", card_s), patch.object(Cache, "_there", there):
        yield device
