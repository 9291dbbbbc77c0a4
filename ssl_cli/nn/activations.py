"""Count the bytes of activations on fake tensors, which have a device and a dtype but no storage."""

import copy
import weakref
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ssl_cli.nn.batchnorm import grouped
from ssl_cli.nn.checkpointing import checkpointed
from ssl_cli.nn.precision import autocast
from ssl_cli.objective import Objective, device_of

ROWS, FEW = 64, 8
WORKSPACE, MAX_WORKSPACE = 1.25, 1.6
"""Bytes that a pass takes per byte of its tensors, for kernels' workspaces: where not measured, and at most."""
FRAGMENTATION = 1.04
"""Bytes that many successive passes take per byte of a single one."""


@dataclass(frozen=True)
class ActivationBytes:
    """Memory estimate of a forward and backward pass, without weights and their gradients.

    Attributes:
        saved: bytes per row that are saved for the backward pass.
        peak: bytes per row at most.
        fixed: bytes for any number of rows.
    """

    saved: float
    peak: float
    fixed: float = 0.0

    def at(self, rows: int, kept_rows: int = 0) -> int:
        """Return the peak bytes of a pass of `rows` while the graphs of `kept_rows` other rows are kept."""
        return int(self.fixed + self.peak * rows + self.saved * kept_rows)


class AllocationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the bytes of tensors created within the block: `live` now, `peak` at most; not those of `before`."""

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()
        self._known.update((tensor.untyped_storage(), 0) for tensor in before)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator and count its new outputs."""
        outputs = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, outputs)
        return outputs

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        size = self._known[storage] = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.live -= size


def count_activations(
    objective: Objective, size: int, precision: str, *, checkpointing: bool = False
) -> ActivationBytes:
    """Count the activations of rows of `size` pixels through `objective`, which is left unchanged.

    A user's network that reads values from tensors cannot run on fake ones: it runs on a few real rows instead.
    """
    try:
        mode = FakeTensorMode()
        fake = fake_copy(objective, mode)
        with mode:
            return count_rows(fake, blank_rows(fake, ROWS, size), precision, checkpointing=checkpointing)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
        return count_rows(objective, blank_rows(objective, FEW, size), precision, checkpointing=checkpointing)


def count_rows(objective: Objective, x: Tensor, precision: str, *, checkpointing: bool = False) -> ActivationBytes:
    """Count the activations of a row of x `(M,C,S,S)`: the difference between M rows and half of them, per row."""
    half, all_rows = (_count_pass(objective, x[:m], precision, checkpointing) for m in (len(x) // 2, len(x)))
    objective.zero_grad(set_to_none=True)
    rows = len(x) - len(x) // 2
    saved = max((all_rows[0] - half[0]) / rows, 1.0)
    return ActivationBytes(saved, max((all_rows[1] - half[1]) / rows, saved))


def blank_rows(objective: Objective, rows: int, size: int) -> Tensor:
    """Return images `(rows,C,S,S)` on the device of `objective`; fake ones within a `FakeTensorMode`."""
    device = device_of(objective)
    x = torch.rand(rows, objective.channels, size, size, device=device)
    return x.contiguous(memory_format=torch.channels_last)


def fake_copy(objective: Objective, mode: FakeTensorMode) -> Objective:
    """Copy an objective with fake tensors, which have a shape and no memory, for its parameters and buffers."""
    fakes: dict[int, Any] = {id(buffer): mode.from_tensor(buffer) for buffer in objective.buffers()}
    for weight in objective.parameters():
        fake = mode.from_tensor(weight.detach())
        fakes[id(weight)] = torch.nn.Parameter(fake, requires_grad=weight.requires_grad)
    return copy.deepcopy(objective, fakes)


def calibrate(
    counted: ActivationBytes, plain: ActivationBytes, peaks: Mapping[int, int], gradient_bytes: int
) -> ActivationBytes:
    """Scale `counted` bytes by what was measured to include kernels' workspaces.

    Args:
        counted: the estimate to scale.
        plain: the estimate, without checkpointing, of the passes that were measured.
        peaks: measured peak bytes by rows; fewer than two where the system does not report them.
        gradient_bytes: bytes of the weights' gradients, which `peaks` include and an estimate does not.
    """
    if len(peaks) < 2:
        return ActivationBytes(counted.saved * WORKSPACE, counted.peak * WORKSPACE)
    (few, low), (rows, high) = sorted(peaks.items())
    factor = min(FRAGMENTATION * max((high - low) / (rows - few) / plain.peak, 1.0), MAX_WORKSPACE)
    fixed = max(high - gradient_bytes - factor * plain.peak * rows, 0.0)
    return ActivationBytes(counted.saved, counted.peak * factor, fixed)


def _count_pass(objective: Objective, x: Tensor, precision: str, checkpointing: bool) -> tuple[int, int]:
    """Return the bytes that are live between forward and backward pass, and the peak."""
    sizes = (len(x),)
    with AllocationCounter(before=[x, *objective.parameters(), *objective.buffers()]) as counter:
        context = checkpointed(objective, sizes) if checkpointing else nullcontext()
        with torch.enable_grad(), grouped(objective, sizes), context, autocast(x.device, precision)():
            z = objective(x)
        saved = counter.live
        z.sum().backward()
        del z
    return saved, counter.peak
