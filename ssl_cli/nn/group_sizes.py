"""Sizes of BatchNorm groups: arithmetic without torch."""

from collections.abc import Iterator, Sequence
from typing import Literal


def pack(sizes: Sequence[int], rows: int) -> Iterator[tuple[int, ...]]:
    """Yield consecutive groups of these sizes, as many at a time as fit in `rows` but at least one."""
    packed: list[int] = []
    for size in sizes:
        if packed and sum(packed) + size > rows:
            yield tuple(packed)
            packed = []
        packed.append(size)
    if packed:
        yield tuple(packed)


def group_sizes(images: int, views: int, group: int | Literal["global"]) -> tuple[int, ...]:
    """Return the rows of each group: one group if all rows fit, else groups of one view, equal to within a row."""
    if group == "global" or images * views <= group:
        return (images * views,)
    count = -(-images // group)
    return tuple(images // count + (i < images % count) for i in range(count)) * views
