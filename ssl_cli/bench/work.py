"""What a row's pass asks of the machine at least: operations of its matrix products, bytes that its kernels move.

Bytes are those of plain kernels that fuse nothing: each reads its inputs from memory and writes its outputs there.
BatchNorm reads twice, once for the statistics. Operations that only look at a tensor in another way move nothing.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ssl_cli.engine.plan.activations import blank_rows, fake_copy
from ssl_cli.engine.precision import autocast
from ssl_cli.nn.batchnorm import grouped
from ssl_cli.objective import Objective

ROWS, FEW = 16, 4
IDLE = ("aten.empty", "aten.new_empty", "aten.detach", "aten.alias")
"""Names that begin so touch no memory."""


@dataclass(frozen=True)
class Work:
    """Floating-point operations and bytes moved."""

    flops: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def times(self, count: float) -> "Work":
        """So many times this."""
        return Work(self.flops * count, self.bytes * count)


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations within it read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked, and count."""
        made = func(*args, **(kwargs or {}))
        name = str(func)
        if name.startswith("aten.") and not name.startswith(IDLE) and not func.is_view:
            reads = sum(_bytes(leaf) for leaf in tree_leaves((args, kwargs)))
            writes = sum(_bytes(leaf) for leaf in tree_leaves(made))
            self.bytes += reads * (2 if "batch_norm" in name else 1) + writes
        return made


def _bytes(leaf: object) -> int:
    if not isinstance(leaf, Tensor):
        return 0
    return min(leaf.numel() * leaf.element_size(), leaf.untyped_storage().nbytes())  # an expanded one repeats itself


@dataclass(frozen=True)
class Passes:
    """The work of a row: forward alone, and forward and backward."""

    forward: Work
    both: Work


def passes(objective: Objective, size: int, precision: str) -> Passes:
    """Of a row of `size` pixels through `objective`, which is left as it was; counted on tensors without numbers.

    A user's own network that looks at numbers passes a few rows for real.
    """
    try:
        without_numbers = FakeTensorMode()
        twin = fake_copy(objective, without_numbers)
        with without_numbers:
            return _slope(twin, blank_rows(twin, ROWS, size), precision)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AssertionError):
        return _slope(objective, blank_rows(objective, FEW, size), precision)


def _slope(objective: Objective, x: Tensor, precision: str) -> Passes:
    """By how much all rows of x ask for more than half of them: what a batch pays once, such as casts, falls out."""
    less, more = (_counted(objective, x[:rows], precision) for rows in (len(x) // 2, len(x)))
    objective.zero_grad(set_to_none=True)
    rows = len(x) - len(x) // 2
    forward, both = (
        Work((b.flops - a.flops) / rows, (b.bytes - a.bytes) / rows) for a, b in zip(less, more, strict=True)
    )
    return Passes(forward, both)


def _counted(objective: Objective, x: Tensor, precision: str) -> tuple[Work, Work]:
    """Forward, and forward and backward, of all rows."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        with torch.enable_grad(), grouped(objective, (len(x),)), autocast(x.device, precision)():
            z = objective(x)
        forward = Work(flops.get_total_flops(), traffic.bytes)
        z.sum().backward()
    return forward, Work(flops.get_total_flops(), traffic.bytes)


def operations(call: Any) -> int:
    """Floating-point operations of the matrix products within a call."""
    with FlopCounterMode(display=False) as flops:
        call()
    return int(flops.get_total_flops())
