"""What one of several processes does of a step: the BatchNorm groups are dealt, so that who shares statistics stays.

Where the groups can be dealt evenly each process passes whole ones. Otherwise each passes a part of every group, and
the processes add up their statistics: slower, as each layer waits for all, but nobody waits for a process with more
rows than others. Either way the same rows share statistics, and a step is that of one process.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from ssl_cli import distributed
from ssl_cli.config.tree import Settings
from ssl_cli.engine.rows import Groups, bn_groups, packed
from ssl_cli.errors import UsageError
from ssl_cli.objective import Objective

# Streams of random numbers, apart from each other and from the augmentation's.
QUERIES, TARGETS = 1, 2


@dataclass(frozen=True)
class Share:
    """The rows of a step by process.

    Attributes:
        parts: the rows of each process, in groups.
        rank: which of them is this one.
        spanning: whether a group has rows in all of them.
    """

    parts: tuple[Groups, ...]
    rank: int = 0
    spanning: bool = False

    @property
    def own(self) -> Groups:
        """The rows of this process."""
        return self.parts[self.rank]

    def micro_batches(self, rows: int) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
        """Row numbers and group sizes of this process, whole groups, as many as fit in `rows` but at least one.

        The same groups at once in all processes: where a group has rows in each, they speak to one another of it.
        """
        most = [max(sizes) for sizes in zip(*(part.sizes for part in self.parts), strict=True)]
        group = start = 0
        for taken in packed(most, rows):
            own = self.own.sizes[group : group + len(taken)]
            yield self.own.order[start : start + sum(own)], own
            group, start = group + len(own), start + sum(own)

    def joined(self, x: Tensor) -> Tensor:
        """All rows in their own order `(M,...)`, from those of this process in group order; without gradient."""
        if len(self.parts) == 1:
            return self.own.restore(x)
        counts = [len(part.order) for part in self.parts]
        order = torch.cat([part.order for part in self.parts])
        return distributed.all_gather(x, counts)[torch.argsort(order).to(x.device, non_blocking=True)]


def dealt(groups: Groups, images: int, size: int, rank: int) -> Share:
    """The groups of a step of so many `images`, dealt to `size` processes."""
    if size == 1:
        return Share((groups,))
    if spans(len(groups.sizes), size):
        return Share(_cut(groups, images, size), rank, spanning=True)
    each = torch.split(groups.order, list(groups.sizes))
    parts = [Groups(torch.cat(each[number::size]), groups.sizes[number::size]) for number in range(size)]
    return Share(tuple(parts), rank)


def own_sizes(sizes: tuple[int, ...], images: int, size: int) -> tuple[int, ...]:
    """Rows of each group that one of `size` processes passes, the most that any does."""
    if size == 1:
        return sizes
    if not spans(len(sizes), size):
        return tuple(max(sizes[start : start + size]) for start in range(0, len(sizes), size))
    if len(sizes) == 1:
        return (sizes[0] // images * -(-images // size),)
    return tuple(-(-rows // size) for rows in sizes)


def spans(groups: int, size: int) -> bool:
    """Whether so many groups are cut, not dealt."""
    return groups % size > 0


def _cut(groups: Groups, images: int, size: int) -> tuple[Groups, ...]:
    """A part of every group for each process; of one group of all views the same images, so each is read once."""
    if min(groups.sizes) < size:
        raise UsageError(
            f"A BatchNorm group of {min(groups.sizes)} rows is too small for {size} processes.",
            "Pass a larger --batch, or fewer processes.",
        )
    if len(groups.sizes) == 1:
        parts = groups.order.view(-1, images).tensor_split(size, 1)
        return tuple(Groups(part.flatten(), (part.numel(),)) for part in parts)
    pieces = [group.tensor_split(size) for group in torch.split(groups.order, list(groups.sizes))]
    return tuple(Groups(torch.cat(own), tuple(len(piece) for piece in own)) for own in zip(*pieces, strict=True))


@dataclass(frozen=True)
class StepShare:
    """The rows of a step that pass with a gradient, and those whose targets are asked for.

    Attributes:
        queries: rows of the gradient's views, view by view.
        targets: images, in the groups in which targets are computed.
        images: of the step, in all.
    """

    queries: Share
    targets: Share
    images: int

    @property
    def spanning(self) -> bool:
        """Whether any group has rows in all processes."""
        return self.queries.spanning or self.targets.spanning

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return len(self.queries.parts) == 1

    def read(self, target_views: tuple[int, ...]) -> Tensor:
        """The images, by their place in the batch, that this process must read; int64, ascending."""
        wanted = [self.queries.own.order % self.images]
        if target_views:
            wanted.append(self.targets.own.order)
        return _ascending(wanted)

    def rows_of(self, view: int, target_views: tuple[int, ...]) -> Tensor:
        """The images whose view of this number passes here; int64, ascending."""
        order = self.queries.own.order
        wanted = [order[order // self.images == view] % self.images]
        if view in target_views:
            wanted.append(self.targets.own.order)
        return _ascending(wanted)


def _ascending(wanted: list[Tensor]) -> Tensor:
    found: Tensor = torch.unique(torch.cat(wanted))
    return found


def step_share(settings: Settings, objective: Objective, step: int) -> StepShare:
    """What of a step's rows passes in this process: a function of the seed, the step and the process alone."""
    model, run = settings.model, settings.run
    views = objective.gradient_views
    return _step_share(views, run.batch, model.bn_group, run.seed, step, distributed.world_size(), distributed.rank())


@lru_cache(maxsize=8)
def _step_share(
    views: int, images: int, group: int | Literal["global"], seed: int, step: int, size: int, rank: int
) -> StepShare:
    queries = bn_groups(images, views, group, seed, step, QUERIES)
    targets = bn_groups(images, 1, group, seed, step, TARGETS)
    return StepShare(dealt(queries, images, size, rank), dealt(targets, images, size, rank), images)


@dataclass(frozen=True)
class Views:
    """The views that this process has.

    Attributes:
        x: `(R,3,H,W)`.
        place: int64 `(V*N,)`, where in x a row is; None: in its own place.
        images: N, of the step.
    """

    x: Tensor
    place: Tensor | None
    images: int

    def rows(self, rows: Tensor) -> Tensor:
        """Rows by their number, view by view."""
        places = rows if self.place is None else self.place[rows]
        return self.x[places.to(self.x.device, non_blocking=True)]

    def view(self, number: int, rows: Tensor) -> Tensor:
        """One view of some images; none of them where this process was never to have it."""
        rows = rows + number * self.images
        if self.place is not None and bool((self.place[rows] < 0).any()):
            return self.x[:0]
        return self.rows(rows)


def gathered(parts: list[tuple[int, Tensor, Tensor]], views: int, images: int) -> Views:
    """Views from their parts: number of the view, the images `(m,)`, and what they look like `(m,3,H,W)`."""
    place = torch.full((views * images,), -1)
    starts = itertools.accumulate((len(rows) for _, rows, _ in parts), initial=0)
    for start, (view, rows, _) in zip(starts, parts, strict=False):
        place[view * images + rows] = torch.arange(start, start + len(rows))
    return Views(torch.cat([x for _, _, x in parts]), place, images)
