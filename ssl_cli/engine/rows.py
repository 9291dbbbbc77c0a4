"""Assign the rows of a step to the ranks.

The rows that share BatchNorm statistics are the same for any number of ranks. Where the number of groups is a multiple
of the world size each rank runs whole groups. Otherwise each rank runs a part of every group and the ranks all-reduce
the statistics: slower, but no rank waits for one that has more rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from ssl_cli import distributed
from ssl_cli.errors import UsageError
from ssl_cli.nn.bn_groups import Groups, bn_groups
from ssl_cli.nn.group_sizes import pack

# Streams of random numbers, distinct from each other and from those of the augmentation.
QUERIES, TARGETS = 1, 2


@dataclass(frozen=True)
class Shard:
    """Hold which rank runs which rows of a step, in BatchNorm groups.

    Attributes:
        by_rank: the groups of each rank.
        rank: index of this rank.
        across_ranks: whether every group has rows on every rank.
    """

    by_rank: tuple[Groups, ...]
    rank: int = 0
    across_ranks: bool = False

    @property
    def local(self) -> Groups:
        """Return the groups of this rank."""
        return self.by_rank[self.rank]

    def micro_batches(self, rows: int) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        """Yield row numbers and group sizes of this rank's micro-batches: whole groups, up to `rows` rows.

        Note:
            All ranks yield the same groups at the same time, so that they can all-reduce statistics of shared groups.
        """
        largest = [max(sizes) for sizes in zip(*(groups.sizes for groups in self.by_rank), strict=True)]
        group = start = 0
        for packed in pack(largest, rows):
            sizes = self.local.sizes[group : group + len(packed)]
            yield self.local.order[start : start + sum(sizes)], sizes
            group, start = group + len(sizes), start + sum(sizes)

    def gather(self, x: Tensor) -> Tensor:
        """Gather all ranks' rows `(M,...)`, in row order, from this rank's `(m,...)` in group order; no gradient."""
        counts = [len(groups.order) for groups in self.by_rank]
        order = torch.cat([groups.order for groups in self.by_rank])
        return distributed.all_gather(x, counts)[torch.argsort(order).to(x.device, non_blocking=True)]


@dataclass(frozen=True)
class StepRows:
    """Hold the rows of one step: of the views with gradient, and of the targets.

    Attributes:
        queries: rows of the views that carry gradient, view by view.
        targets: images, in the groups in which targets are computed.
        images: images of the step over all ranks.
    """

    queries: Shard
    targets: Shard
    images: int

    @property
    def across_ranks(self) -> bool:
        """Return whether any BatchNorm group has rows on several ranks."""
        return self.queries.across_ranks or self.targets.across_ranks

    @property
    def single_rank(self) -> bool:
        """Return whether this is the only rank."""
        return len(self.queries.by_rank) == 1

    def images_to_read(self, target_views: tuple[int, ...]) -> Tensor:
        """Return the positions in the batch of the images that this rank reads; int64, ascending."""
        return self._images([self.queries.local.order % self.images], bool(target_views))

    def images_of_view(self, view: int, target_views: tuple[int, ...]) -> Tensor:
        """Return the positions in the batch of the images whose view number `view` this rank runs; int64, ascending."""
        order = self.queries.local.order
        return self._images([order[order // self.images == view] % self.images], view in target_views)

    def _images(self, wanted: list[Tensor], with_targets: bool) -> Tensor:
        targets = [self.targets.local.order] if with_targets else []
        return torch.unique(torch.cat([*wanted, *targets]))  # type: ignore[no-any-return]


@lru_cache(maxsize=8)
def step_rows(
    views: int, images: int, group: int | Literal["global"], seed: int, step: int, world_size: int = 1, rank: int = 0
) -> StepRows:
    """Return the rows of a step for one rank: a function of the seed, the step and the rank only.

    Args:
        views: views of an image that carry gradient.
        images: images of the step over all ranks.
        group: rows of a BatchNorm group at most, or `global`.
        seed: seed of the run.
        step: number of the step, from 0.
        world_size: number of ranks.
        rank: index of the rank.

    Raises:
        UsageError: a BatchNorm group has fewer rows than there are ranks.
    """
    queries = bn_groups(images, views, group, seed, step, QUERIES)
    targets = bn_groups(images, 1, group, seed, step, TARGETS)
    return StepRows(shard(queries, images, world_size, rank), shard(targets, images, world_size, rank), images)


def shard(groups: Groups, images: int, world_size: int, rank: int) -> Shard:
    """Divide the groups of a step of `images` images among the ranks.

    Raises:
        UsageError: a group has fewer rows than there are ranks.
    """
    if world_size == 1:
        return Shard((groups,))
    if splits_groups(len(groups.sizes), world_size):
        return Shard(_split_groups(groups, images, world_size), rank, across_ranks=True)
    parts = torch.split(groups.order, list(groups.sizes))
    by_rank = [Groups(torch.cat(parts[r::world_size]), groups.sizes[r::world_size]) for r in range(world_size)]
    return Shard(tuple(by_rank), rank)


def splits_groups(groups: int, world_size: int) -> bool:
    """Return whether every BatchNorm group is split across ranks: `groups` is no multiple of the world size."""
    return groups % world_size > 0


def local_group_sizes(sizes: tuple[int, ...], images: int, world_size: int) -> tuple[int, ...]:
    """Return the rows of each group that a single rank runs: the maximum over ranks."""
    if world_size == 1:
        return sizes
    if not splits_groups(len(sizes), world_size):
        return tuple(max(sizes[start : start + world_size]) for start in range(0, len(sizes), world_size))
    if len(sizes) == 1:
        return (sizes[0] // images * -(-images // world_size),)
    return tuple(-(-rows // world_size) for rows in sizes)


def _split_groups(groups: Groups, images: int, world_size: int) -> tuple[Groups, ...]:
    """Split every group across the ranks; one group of all views by images, so that each image is read once."""
    if min(groups.sizes) < world_size:
        raise UsageError(
            f"A BatchNorm group of {min(groups.sizes)} rows is too small for {world_size} ranks.",
            "Pass a larger --batch, or fewer --devices.",
        )
    if len(groups.sizes) == 1:
        by_image = groups.order.view(-1, images).tensor_split(world_size, 1)
        return tuple(Groups(part.flatten(), (part.numel(),)) for part in by_image)
    parts = [group.tensor_split(world_size) for group in torch.split(groups.order, list(groups.sizes))]
    return tuple(Groups(torch.cat(local), tuple(len(part) for part in local)) for local in zip(*parts, strict=True))
