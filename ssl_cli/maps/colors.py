"""Colours of the points of a map: by label or group, the largest first, with a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_cli.data.source import Source, groups_of
from ssl_cli.errors import DataError
from ssl_cli.names import shown

PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#a6761d", "#7a3b9e", "#5f7f1f", "#e7298a",
    "#1b1b6b", "#b3a000", "#00c2c2", "#8c0d26", "#8da0cb", "#46381f", "#7fd13b", "#ff7f6e", "#5a5a8c", "#c9a0ff",
)  # fmt: skip
"""The first eight are distinct with any colour vision (Okabe and Ito 2008, with the yellow and black replaced)."""
OTHERS, NONE = "#8a8a8a", "#c4c4c4"
"""Of classes beyond the palette, and of images without a label."""


@dataclass(frozen=True)
class Entry:
    """A line of the legend: what it is called, its colour, and how many points have it."""

    name: str
    color: str
    count: int


@dataclass(frozen=True)
class Colors:
    """Hold the colours of points.

    Attributes:
        by: `label`, `group` or `none`.
        of: for each point its line in the legend, int64 `(N,)`.
        legend: the colours.
        words: the label or group of each point, printable; empty where they are not coloured.
    """

    by: str
    of: Tensor
    legend: tuple[Entry, ...]
    words: tuple[str, ...]


def colors_of(source: Source, index: Tensor, by: str | None) -> Colors:
    """Colour the images `index` `(M,)` of a source by label, group or not at all; None: by what there is.

    Raises:
        DataError: there are no labels, or no groups, and they were asked for.
    """
    groups = groups_of(source)
    found = {"label": (source.labels, source.classes)} if bool((source.labels >= 0).any()) else {}
    if groups is not None:
        found["group"] = (groups.of, tuple(groups.names))
    if by not in {None, "none", *found}:
        what = f"The images of {shown(source.name)} have no {by}s to colour by."
        raise DataError(what, "Leave --color out, or give images that have some.")
    chosen = next(iter(found), "none") if by is None else by
    if chosen == "none":
        return Colors(
            "none", torch.zeros(len(index), dtype=torch.int64), (Entry("", PALETTE[0], len(index)),), ("",) * len(index)
        )
    of, names = found[chosen]
    words = [*(shown(name, 60) for name in names), f"no {chosen}"]  # the last one is for -1
    return Colors(chosen, *_legend(of[index], names, chosen), tuple(words[k] for k in of[index].tolist()))


def _legend(of: Tensor, names: Sequence[str], by: str) -> tuple[Tensor, tuple[Entry, ...]]:
    """Give a colour to each of the largest classes, one to all others, and one to images without."""
    counts = torch.bincount(of + 1, minlength=len(names) + 1)
    order = [k for k in sorted(range(len(names)), key=lambda k: (-int(counts[k + 1]), names[k])) if counts[k + 1]]
    line = torch.zeros(len(names) + 1, dtype=torch.int64)
    legend = []
    for number, k in enumerate(order[: len(PALETTE)]):
        line[k + 1] = number
        legend.append(Entry(shown(names[k], 60), PALETTE[number], int(counts[k + 1])))
    if rest := order[len(PALETTE) :]:
        line[torch.tensor(rest) + 1] = len(legend)
        more = f"{len(rest)} other {by}s" if len(rest) > 1 else shown(names[rest[0]], 60)
        legend.append(Entry(more, OTHERS, int(counts[torch.tensor(rest) + 1].sum())))
    if counts[0]:
        line[0] = len(legend)
        legend.append(Entry(f"no {by}", NONE, int(counts[0])))
    return line[of + 1], tuple(legend)
