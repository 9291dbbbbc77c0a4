"""Which rows of a step share BatchNorm statistics, and how they are cut into micro-batches."""

from collections.abc import Iterator, Sequence
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

    def restore(self, x: Tensor) -> Tensor:
        """Rows that stand in group order `(M,...)` back in their own order; differentiable."""
        return x[torch.argsort(self.order).to(x.device, non_blocking=True)]


def packed(sizes: Sequence[int], rows: int) -> Iterator[tuple[int, ...]]:
    """Groups of these sizes in turn, as many at once as fit in `rows` but at least one."""
    taken: list[int] = []
    for size in sizes:
        if taken and sum(taken) + size > rows:
            yield tuple(taken)
            taken = []
        taken.append(size)
    if taken:
        yield tuple(taken)


def group_sizes(images: int, views: int, group: int | Literal["global"]) -> tuple[int, ...]:
    """Rows of each group: one of all rows where they fit in it; else equal ones of a view, give or take a row."""
    if group == "global" or images * views <= group:
        return (images * views,)
    count = -(-images // group)
    return tuple(images // count + (i < images % count) for i in range(count)) * views


def bn_groups(images: int, views: int, group: int | Literal["global"], *stream: int) -> Groups:
    """Groups of at most `group` rows among `views` x `images` rows, view by view.

    Where one group holds all rows, that is the batch as the papers have it. Otherwise a group holds rows of one view
    alone, drawn anew for each view from `stream` (seed, step, ...): the two views of an image never share a group,
    and neither do their neighbours, so statistics cannot give a positive away. That is MoCo's shuffling BatchNorm
    (section 3.3), which on one device is an exact no-op unless groups are real. Groups of a view differ by one row
    at most.
    """
    sizes = group_sizes(images, views, group)
    if len(sizes) == 1:
        return Groups(torch.arange(images * views), sizes)
    order = [view * images + draws.permutation(stream[0], images, *stream[1:], view) for view in range(views)]
    return Groups(torch.cat(order), sizes)
