"""Pictures of search results: an image and its neighbours, and pairs of similar images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ssl_cli.augment import sheet
from ssl_cli.errors import DataError
from ssl_cli.events import Pictured, Tile
from ssl_cli.names import shown
from ssl_cli.sheet import write_picture

ACROSS = 5
"""Neighbours in a line."""
MOST = 50
"""Neighbours, or pairs, on a sheet."""
PAPER = bytes(sheet.PAPER)

Read = Callable[[], Tensor]


def tile_of(title: str, path: str, label: str | None, read: Read) -> Tile:
    """Return the tile of an image with its label and file name below; an empty one where it cannot be read."""
    words = ": ".join(filter(None, [shown(label or "", 40), shown(Path(path).name, 60)]))
    try:
        return sheet.tile(title, read(), words)
    except DataError as error:
        return Tile(title=title, width=1, height=1, rgb=PAPER, caption=f"{words}: {error.message}")


def lines_of(query: Tile, neighbors: Sequence[Tile], name: str) -> list[Pictured]:
    """Return the lines of a sheet: the query and its nearest images, then the others below these."""
    blank = Tile(title="", width=1, height=1, rgb=PAPER)
    starts = range(0, max(len(neighbors), 1), ACROSS)
    return [
        Pictured(name="" if start else name, tiles=(blank if start else query, *neighbors[start : start + ACROSS]))
        for start in starts
    ]


def lines_of_pairs(pairs: Sequence[Mapping[str, Any]], reads: Sequence[tuple[Read, Read]]) -> list[Pictured]:
    """Return the lines of a sheet, a pair in each."""
    lines = []
    for pair, (first, second) in zip(pairs, reads, strict=True):
        ends = zip(("first", "second"), pair["labels"], (first, second), strict=True)
        tiles = tuple(tile_of("", pair[key], label, read) for key, label, read in ends)
        lines.append(Pictured(name=f"{pair['similarity']:.4f}", tiles=tiles))
    return lines


def write_sheet(output: Path, title: str, lines: Sequence[Pictured], side: int) -> None:
    """Draw the lines with tiles of side `side` into a PNG.

    Raises:
        ResourceError: it cannot be written.
    """
    write_picture(output, sheet.png(sheet.contact_sheet(title, lines, side)))
