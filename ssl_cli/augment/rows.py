"""Change only those images of a batch that drew an operation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ssl_cli.objective import to_device


def on_rows(x: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Images x `(N,...)` after `change(x[rows], rows)` on the rows where `chosen`, bool `(N,)`, is true.

    Works in place. Rows are found where `chosen` lives: with the draws on the CPU, nothing waits for a GPU.
    """
    return at_rows(x, chosen.nonzero().squeeze(1), change)


def at_rows(x: Tensor, rows: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The same on `rows`, int64 `(M,)`, each but once and in this order."""
    if len(rows) == 0:
        return x
    if len(rows) == len(x) and (len(x) == 1 or bool((rows[1:] > rows[:-1]).all())):
        return change(x, rows)
    there = to_device(rows, x.device)
    return x.index_copy_(0, there, change(x.index_select(0, there), rows))
