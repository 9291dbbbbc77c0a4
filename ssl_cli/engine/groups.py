"""Which rows of a step share BatchNorm statistics, and how they are cut into micro-batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ssl_cli import draws


@dataclass(frozen=True)
class Groups:
    """The rows of a step in group order.

    Attributes:
        order: int64 `(M,)`, the row that stands at each place.
        sizes: rows of each group, in that order.
    """

    order: Tensor
    sizes: tuple[int, ...]

    def micro_batches(self, rows: int) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        """Whole groups, as many as fit in `rows` but at least one: their row numbers and group sizes."""
        start, pending = 0, list(self.sizes)
        while pending:
            taken = [pending.pop(0)]
            while pending and sum(taken) + pending[0] <= rows:
                taken.append(pending.pop(0))
            stop = start + sum(taken)
            yield self.order[start:stop], tuple(taken)
            start = stop

    def restore(self, x: Tensor) -> Tensor:
        """Rows that stand in group order `(M,...)` back in their own order; differentiable."""
        return x[torch.argsort(self.order)]


def bn_groups(images: int, views: int, group: int | Literal["global"], *stream: int) -> Groups:
    """Groups of at most `group` rows among `views` x `images` rows, view by view.

    Where one group holds all rows, that is the batch as the papers have it. Otherwise a group holds rows of one view
    alone, drawn anew for each view from `stream` (seed, step, ...): the two views of an image never share a group,
    and neither do their neighbours, so statistics cannot give a positive away. That is MoCo's shuffling BatchNorm
    (section 3.3), which on one device is an exact no-op unless groups are real. Groups of a view differ by one row
    at most.
    """
    rows = images * views
    if group == "global" or rows <= group:
        return Groups(torch.arange(rows), (rows,))
    count = -(-images // group)
    sizes = [images // count + (i < images % count) for i in range(count)]
    order = [view * images + draws.permutation(stream[0], images, *stream[1:], view) for view in range(views)]
    return Groups(torch.cat(order), tuple(sizes * views))
