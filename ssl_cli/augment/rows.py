"""Apply an operation to some images of a batch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ssl_cli.objective import to_device


def on_rows(x: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return x `(N,...)` with the images where `chosen`, bool `(N,)`, is true replaced by `change(x[rows], rows)`.

    Note:
        x may be overwritten. The rows are found on the device of `chosen`: with draws on the CPU there is no wait for a
        GPU.
    """
    return at_rows(x, chosen.nonzero().squeeze(1), change)


def at_rows(x: Tensor, rows: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return x `(N,...)` with the images `rows`, int64 `(M,)`, all different, replaced by `change(x[rows], rows)`.

    Note:
        x is overwritten, unless all images are replaced in their order: then `change(x, rows)` is returned as it is.
    """
    if len(rows) == 0:
        return x
    if len(rows) == len(x) and (len(x) == 1 or bool((rows[1:] > rows[:-1]).all())):
        return change(x, rows)
    index = to_device(rows, x.device)
    return x.index_copy_(0, index, change(x.index_select(0, index), rows))
