"""Positives by group: the second view of an image is made of another image of its group, drawn statelessly."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.config.tree import DataSettings, Settings
from ssl_cli.data.source import Groups, Source, groups_of
from ssl_cli.errors import DataError, UsageError
from ssl_cli.events import Choice
from ssl_cli.names import shown
from ssl_cli.registry import TRANSFERS

_SLOT = draws.slots("positive", 1)[0]
_HINT = "Pass --group-by '{parent}' for a group a folder, or a list with a column group."


class Positives:
    """Draw for each image another one of its group: a function of seed, epoch and image alone.

    Args:
        group: int64 `(N,)`, 0 or above, the group of each image of the set.

    Attributes:
        group: likewise.
        alone: the images that are the only one of their group, each its own positive.
    """

    def __init__(self, group: Tensor) -> None:
        self.group = group
        self._order = group.argsort(stable=True)
        sizes = group.bincount()
        self._first = (sizes.cumsum(0) - sizes)[group]
        self._size = sizes[group]
        self._place = torch.empty_like(group)
        self._place[self._order] = torch.arange(len(group))
        self.alone = int((sizes == 1).sum())

    @property
    def own_groups(self) -> tuple[tuple[float, float], ...]:
        """Return for each size of group the share of images in such groups, and the part of the others in one's own."""
        images, counts = len(self.group), self._size.bincount().tolist()
        return tuple((count / images, (size - 1) / (images - 1)) for size, count in enumerate(counts) if count)

    def draw(self, seed: int, epoch: int, index: Tensor) -> Tensor:
        """Return the positive of each image of int64 indices `(M,)`; of one alone in its group, itself."""
        first, size = self._first[index], self._size[index]
        others = (size - 1).clamp(min=1)
        step = 1 + draws.integer(seed, epoch, index, 1, _SLOT, others)
        return self._order[first + (self._place[index] - first + step) % size]

    def replacements(self, index: int, positive: int) -> Iterator[int]:
        """Yield what replaces a positive that cannot be read: other images of the group, and last `index` itself."""
        first, size, place = (int(x[index]) for x in (self._first, self._size, self._place))
        start = int(self._place[positive])
        for step in range(1, size):
            candidate = first + (start - first + step) % size
            if candidate != place:
                yield int(self._order[candidate])
        yield index


def group_at(positives: Positives | None, index: Tensor) -> Tensor | None:
    """Return the group of each image of int64 indices `(M,)`; None where positives are by image."""
    return None if positives is None else positives.group[index]


def positives_of(settings: DataSettings, source: Source) -> Positives | None:
    """Return how positives of the images are drawn; None where they are by image.

    Raises:
        DataError: no two of the images are of one group.
    """
    if settings.positives == "image":
        return None
    groups = groups_of(source)
    if groups is None:
        raise DataError(f"{shown(source.name)} has no groups, and data.positives=group asks for them.", _HINT)
    found = _by_group(groups)
    if found.alone == len(source):
        what = f"Each of the {len(source):,} images of {shown(source.name)} is alone in its group"
        raise DataError(f"{what}, and data.positives=group asks for groups of two or more.", _HINT)
    return found


@lru_cache(maxsize=1)
def _by_group(groups: Groups) -> Positives:
    """Sort the images by group, once for the plan, the objective and the loader of a run: 0.3 s for ImageNet."""
    return Positives(groups.ids())


def describe_positives(settings: Settings, source: Source | None) -> tuple[Choice, ...]:
    """Return the row of the plan on positives by group; none where positives are by image or the images not here.

    Raises:
        DataError: as `positives_of`.
        UsageError: the method has no positives.
    """
    if settings.data.positives == "image":
        return ()
    if settings.method.name in TRANSFERS:
        raise UsageError(f"{settings.method.name} has no positives.", "Leave data.positives out.")
    found = None if source is None else positives_of(settings.data, source)
    if found is None:
        return ()
    sizes = found.group.bincount()
    sizes = sizes[sizes > 1]
    images, smallest, largest = int(sizes.sum()), int(sizes.min()), int(sizes.max())
    each = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
    reason = f"{images:,} images in {len(sizes):,} groups of {each}, not one another's negatives"
    reason += f"; {found.alone:,} alone in a group, each its own positive" if found.alone else ""
    return (Choice(name="positives", value="another image of the group", reason=reason),)
