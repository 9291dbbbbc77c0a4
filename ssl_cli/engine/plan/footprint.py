"""What a row of activations weighs: bytes counted while a pass runs on tensors without numbers."""

import copy
import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ssl_cli.engine.precision import autocast
from ssl_cli.nn.batchnorm import grouped
from ssl_cli.nn.checkpointing import checkpointed
from ssl_cli.objective import Objective

ROWS, FEW = 64, 8


@dataclass(frozen=True)
class Footprint:
    """Bytes of a pass.

    Attributes:
        kept: a row, between forward and backward.
        peak: a row, at most.
        fixed: whatever the rows, beside weights and gradients.
    """

    kept: float
    peak: float
    fixed: float = 0.0

    def of(self, rows: int, beside: int = 0) -> int:
        """Bytes at most of a pass of `rows`, while graphs of `beside` other rows are kept."""
        return int(self.fixed + self.peak * rows + self.kept * beside)


class AllocationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are made within it: `live` now, `peak` at most; those there `before` are not."""

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()
        self._known.update((tensor.untyped_storage(), 0) for tensor in before)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked, and note what is new."""
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._note, made)
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = self._known[storage] = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.live -= size


def footprint(objective: Objective, size: int, precision: str, *, checkpointing: bool = False) -> Footprint:
    """Of rows of `size` pixels through `objective` and back, which is left as it was.

    Counted on fake tensors, which have a device and a dtype but no numbers, so that autocast does what it would do. A
    user's own network that looks at numbers passes some rows for real.
    """
    try:
        without_numbers = FakeTensorMode()
        twin = fake_copy(objective, without_numbers)
        with without_numbers:
            return weighed(twin, blank_rows(twin, ROWS, size), precision, checkpointing=checkpointing)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
        return weighed(objective, blank_rows(objective, FEW, size), precision, checkpointing=checkpointing)


def weighed(objective: Objective, x: Tensor, precision: str, *, checkpointing: bool = False) -> Footprint:
    """Of a row of x `(M,3,S,S)`: by how much M rows hold more than half of them."""
    (less, low), (more, high) = (_held(objective, x[:rows], precision, checkpointing) for rows in (len(x) // 2, len(x)))
    objective.zero_grad(set_to_none=True)
    rows = len(x) - len(x) // 2
    kept = max((more - less) / rows, 1.0)
    return Footprint(kept, max((high - low) / rows, kept))


def blank_rows(objective: Objective, rows: int, size: int) -> Tensor:
    """Images `(rows,3,S,S)` on the device of `objective`; within a mode of fake tensors they have no numbers."""
    device = next(objective.parameters()).device
    x = torch.rand(rows, objective.channels, size, size, device=device)
    return x.contiguous(memory_format=torch.channels_last)


def fake_copy(objective: Objective, without_numbers: FakeTensorMode) -> Objective:
    """A copy of fake tensors; nothing is copied that has a weight."""
    hollow: dict[int, Any] = {id(buffer): without_numbers.from_tensor(buffer) for buffer in objective.buffers()}
    for weight in objective.parameters():
        fake = without_numbers.from_tensor(weight.detach())
        hollow[id(weight)] = torch.nn.Parameter(fake, requires_grad=weight.requires_grad)
    return copy.deepcopy(objective, hollow)


def _held(objective: Objective, x: Tensor, precision: str, checkpointing: bool) -> tuple[int, int]:
    """Bytes live between forward and backward, and at most, of all rows."""
    sizes = (len(x),)
    sparing = checkpointed(objective, sizes) if checkpointing else nullcontext()
    with AllocationCounter(before=[x, *objective.parameters(), *objective.buffers()]) as ledger:
        with torch.enable_grad(), grouped(objective, sizes), sparing, autocast(x.device, precision)():
            z = objective(x)
        kept = ledger.live
        z.sum().backward()
        del z
    return kept, ledger.peak
