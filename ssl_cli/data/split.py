"""Subsets of a source: the first images of each class, and a stratified split by seed."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.data.source import BatchedSource, Entry, Source, entries_of, group_ids, groups_of

_STREAM = -1
"""First word of the stream of these permutations; those of epochs start from 0."""


class Subset:
    """Serve some images of a source, as a source.

    Args:
        source: the source to select from.
        indices: int64 `(M,)`, positions of the images in it.
        labels: int64 `(M,)`, which replace the source's.
        classes: names of these labels.
    """

    def __init__(
        self, source: Source, indices: Tensor, labels: Tensor | None = None, classes: tuple[str, ...] | None = None
    ) -> None:
        self.source, self.indices, self.name = source, indices, source.name
        self.labels = source.labels[indices] if labels is None else labels
        self.classes = source.classes if classes is None else classes
        self.skipped, self.notes = getattr(source, "skipped", ()), getattr(source, "notes", ())
        self.skips_bad = getattr(source, "skips_bad", True)
        groups = groups_of(source)
        self.groups = groups and groups.select(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def path(self, index: int) -> str:
        """Return the image's path in the source."""
        return self.source.path(int(self.indices[index]))

    def entries(self, indices: Sequence[int] | None = None) -> Iterator[Entry]:
        """Yield what identifies the images in the source; nothing where they are no files."""
        if indices is None and torch.equal(self.indices, torch.arange(len(self.source))):
            return entries_of(self.source)
        chosen = self.indices if indices is None else self.indices[list(indices)]
        return entries_of(self.source, chosen.tolist())

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Read the image from the source."""
        return self.source.read(int(self.indices[index]), cap)


class BatchedSubset(Subset):
    """Serve some images of a source that reads many at once."""

    source: BatchedSource

    def read_many(self, indices: Tensor) -> Tensor:
        """Read the images from the source."""
        return self.source.read_many(self.indices[indices])


def files_of(source: Any, index: int) -> tuple[Any, int]:
    """Return the source that a subset selects from, however often, and the place of its image `index` in it."""
    while isinstance(source, Subset):
        source, index = source.source, int(source.indices[index])
    return source, index


def subset(
    source: Source, indices: Tensor, labels: Tensor | None = None, classes: tuple[str, ...] | None = None
) -> Source:
    """Select the images `indices` `(M,)` of a source, with other labels and classes if given."""
    kind = BatchedSubset if isinstance(source, BatchedSource) else Subset
    return kind(source, indices, labels, classes)


def limited(source: Source, limit: int | None) -> Source:
    """Select the first `limit` images of each class, in the order of the source; None: return the source.

    Images without a label (-1) count as one class, so of an unlabelled source the first `limit` are selected.
    """
    if limit is None:
        return source
    by_class = source.labels.argsort(stable=True)
    counts = torch.bincount(source.labels + 1)
    rank = torch.arange(len(source)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return subset(source, by_class[rank < min(limit, len(source))].sort().values)


def labelled(source: Source) -> Source:
    """Select the images that have a label."""
    has = source.labels >= 0
    return source if has.all() else subset(source, has.nonzero()[:, 0])


def stratified(source: Source, seed: int, fraction: float = 0.2) -> tuple[Source, Source]:
    """Split a source; the second part holds a `fraction` of each class, at least one image of two or more.

    Of a source with groups no group is in both parts, so the fraction is met as nearly as whole groups can.
    """
    rest, held_out = hold_out(source.labels, seed, fraction, group_ids(source))
    return subset(source, rest), subset(source, held_out)


def hold_out(labels: Tensor, seed: int, fraction: float = 0.2, group: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Split images of these labels `(N,)` and groups as `stratified` does; return both parts' positions, in order."""
    if group is not None:
        return _hold_out_groups(labels, seed, fraction, group)
    rest, held_out = [], []
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero()[:, 0]
        members = members[draws.permutation(seed, len(members), _STREAM, label)]
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out.append(members[:count])
        rest.append(members[count:])
    return torch.cat(rest).sort().values, torch.cat(held_out).sort().values


def _hold_out_groups(labels: Tensor, seed: int, fraction: float, group: Tensor) -> tuple[Tensor, Tensor]:
    """Hold out whole groups; a group counts for the class that most of its images are of.

    In an order drawn for each class, a group is held out if that brings the number of images nearer to the fraction:
    one group at least of a class that has two, and never all. Where each image is a group, it is `hold_out` without.
    """
    of: Tensor = torch.unique(group, return_inverse=True)[1]
    sizes, home = of.bincount(), _most_frequent(labels, of)
    first = torch.full_like(sizes, len(of)).scatter_reduce(0, of, torch.arange(len(of)), "amin")
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    for label in sorted(set(home.tolist())):
        members = (home == label).nonzero()[:, 0]
        members = members[first[members].argsort()]
        members = members[draws.permutation(seed, len(members), _STREAM, label)]
        counts = sizes[members].tolist()
        wanted = min(max(1, round(fraction * sum(counts))), sum(counts) - 1)
        taken, held = list[int](), 0
        for number, count in enumerate(counts):
            if abs(held + count - wanted) < abs(held - wanted) and len(taken) < len(counts) - 1:
                taken.append(number)
                held += count
        if not taken and len(counts) > 1:
            taken = [min(range(len(counts)), key=counts.__getitem__)]
        chosen[members[taken]] = True
    held_out = chosen[of]
    return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]


def _most_frequent(labels: Tensor, group: Tensor) -> Tensor:
    """Return the label that most images of each group have `(G,)`, of several the smallest; groups are 0 to G - 1."""
    low = int(labels.min())
    count = int(labels.max()) - low + 1
    pairs, sizes = torch.unique(group * count + labels - low, return_counts=True)
    pairs = pairs[sizes.argsort(descending=True, stable=True)]
    of: Tensor = pairs // count
    order = of.argsort(stable=True)
    first = order[torch.cat([torch.ones(1, dtype=torch.bool), of[order][1:] != of[order][:-1]])]
    found: Tensor = pairs[first] % count + low
    return found


def part_of(source: Source, count: int, seed: int) -> Source:
    """Select about `count` images: the same share of each class, one at least of two; or all, if there are no more."""
    return source if len(source) <= count else subset(source, hold_out(source.labels, seed, count / len(source))[1])


def queries_and_bank(source: Source, order: Tensor, seed: int, fraction: float) -> tuple[Source, Source]:
    """Split the images `order` `(M,)`: the first ones, or groups of them, such a fraction; no group is in both."""
    cut, group = int(len(order) * fraction), group_ids(source, order)
    queries, bank = order[:cut], order[cut:]
    if group is not None and len(group):
        bank, queries = (order[part] for part in hold_out(source.labels[order], seed, fraction, group))
    return subset(source, queries), subset(source, bank)


def spread(source: Source, count: int, seed: int = 0) -> Tensor:
    """Return the order int64 `(N,)` of all images in which the first `count` are as different as labels can say.

    One image of each class comes before the second of any; of more classes than `count` those evenly spaced come first.
    The images of a class, and those without any label, are taken evenly spaced; the seed says from which one on.
    """
    classes = source.labels + 1
    sizes = classes.bincount()
    classes = (sizes > 0).cumsum(0)[classes] - 1  # numbered without gaps
    sizes = sizes[sizes > 0]
    if len(sizes) < 2:
        return _turned(len(source), count, seed)
    place = torch.empty(len(sizes), dtype=torch.int64)
    place[_evenly_spaced(len(sizes), count)] = torch.arange(len(sizes))
    by_class, each = classes.argsort(stable=True), -(-count // len(sizes))
    members = torch.split(by_class, sizes.tolist())
    by_class = torch.cat([own[_turned(len(own), each, seed)] for own in members])
    rank = torch.arange(len(source)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    order: Tensor = by_class[(rank * len(sizes) + place[classes[by_class]]).argsort()]
    return order


def evenly(length: int, count: int) -> Tensor:
    """Return at most `count` of `length` places, evenly spaced from the first to the last, int64."""
    return torch.linspace(0, length - 1, min(count, length)).long()


def _evenly_spaced(length: int, count: int) -> Tensor:
    """Return the order of `length` places that begins with `count` of them evenly spaced."""
    count = min(count, length)
    first = torch.arange(count) * length // max(count, 1)
    others = torch.ones(length, dtype=torch.bool)
    others[first] = False
    return torch.cat([first, others.nonzero()[:, 0]])


def _turned(length: int, count: int, seed: int) -> Tensor:
    """Return `_evenly_spaced`, counted from the place that the seed names."""
    return (_evenly_spaced(length, count) + seed) % length


def relabelled(source: Source, classes: tuple[str, ...]) -> Source:
    """Renumber the labels of a source as in `classes`; its further classes come after them."""
    if source.classes == classes:
        return source
    number = {name: k for k, name in enumerate([*classes, *(c for c in source.classes if c not in classes)])}
    # The last entry is for label -1.
    new = torch.tensor([*(number[name] for name in source.classes), -1])[source.labels]
    return subset(source, torch.arange(len(source)), new, tuple(number))
