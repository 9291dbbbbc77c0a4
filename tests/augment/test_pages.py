"""Large pages: memory like any other, and back with the last tensor that needs it."""

import gc
import mmap
import weakref
from typing import Any

import pytest
import torch

from ssl_cli.augment import pages
from ssl_cli.augment.pages import empty

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5 << 20)])
def test_it_can_be_written_and_read(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = empty(shape, dtype, CPU)
    assert (x.shape, x.dtype) == (shape, dtype)
    x.fill_(2)
    assert (x == 2).all()


def test_memory_goes_with_its_last_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[mmap.mmap]] = []

    class Watched(mmap.mmap):
        def __new__(cls, *args: Any, **given: Any) -> "Watched":
            self = super().__new__(cls, *args, **given)
            made.append(weakref.ref(self))
            return self

    monkeypatch.setattr(pages, "LARGE", 1000)
    monkeypatch.setattr(mmap, "mmap", Watched)
    x = empty((4, 1000), torch.float32, CPU)
    row = x[2].fill_(1)
    del x
    gc.collect()
    assert made[0]() is not None
    assert row.sum() == 1000
    del row
    gc.collect()
    assert made[0]() is None


def test_where_the_system_refuses_it_is_plain_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no such pages")

    monkeypatch.setattr(pages, "LARGE", 1000)
    monkeypatch.setattr(mmap, "mmap", refuse)
    assert empty((4, 1000), torch.float32, CPU).fill_(1).sum() == 4000
