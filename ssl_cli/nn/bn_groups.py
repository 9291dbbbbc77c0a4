"""BatchNorm groups: which rows of a step share statistics.

Groups are part of the recipe: membership is a function of the seed and the step, not of memory or of the world size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.nn.group_sizes import group_sizes


@dataclass(frozen=True)
class Groups:
    """Rows of a step in group order.

    Attributes:
        order: int64 `(M,)`, the row at each position.
        sizes: rows of each group, in that order.
    """

    order: Tensor
    sizes: tuple[int, ...]


def bn_groups(images: int, views: int, group: int | Literal["global"], *stream: int) -> Groups:
    """Divide `views` x `images` rows into BatchNorm groups of at most `group` rows.

    One group that holds all rows is the batch as in the papers. Otherwise each group holds rows of one view only,
    drawn for each view separately from `stream` (seed, step, ...): the views of an image never share a group, nor do
    they have the same neighbours, so batch statistics cannot reveal the positive. That is MoCo's shuffling BatchNorm
    (section 3.3), which on a single device has an effect only with real groups.
    """
    sizes = group_sizes(images, views, group)
    if len(sizes) == 1:
        return Groups(torch.arange(images * views), sizes)
    order = [view * images + draws.permutation(stream[0], images, *stream[1:], view) for view in range(views)]
    return Groups(torch.cat(order), sizes)
