"""Render pictures in the terminal: a cell shows two pixels, a half block above its background."""

import re
import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import set_cell_size
from rich.color import Color
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ssl_cli.events import Pictured, Tile
from ssl_cli.ui.text import safe

GAP = 1
NARROWEST, WIDEST = 16, 40
"""Columns of a tile: narrower tiles would be illegible, so they wrap to more lines; wider ones show no more."""
Pixel = tuple[int, int, int]


def render(picture: Pictured, width: int) -> RenderableType:
    """Render the tiles side by side under the picture's name, and their captions below, in `width` columns.

    On a console without colours or half blocks nothing is rendered.
    """
    return _Preview(picture, width)


class _Preview:
    def __init__(self, picture: Pictured, width: int) -> None:
        self._picture, self._width = picture, width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if console.no_color or console.color_system is None or options.ascii_only:
            return
        name = Text(safe(self._picture.name), "bold", overflow="ellipsis", no_wrap=True)
        name.truncate(self._width, overflow="ellipsis")
        tiles = self._picture.tiles
        across, side = _layout(tiles, self._width)
        strips = [_Strip(tiles[start : start + across], side) for start in range(0, len(tiles), across)]
        yield Group(name, *strips, *_captions(tiles, self._width), Text())


def _layout(tiles: Sequence[Tile], width: int) -> tuple[int, int]:
    """Return how many tiles fit in a line, and the columns of each; no tile is enlarged."""
    most = max(1, (width + GAP) // (NARROWEST + GAP))
    lines = -(-len(tiles) // most)
    across = -(-len(tiles) // lines)
    room = (width + GAP) // across - GAP
    own = max(max(tile.width, tile.height) for tile in tiles)
    titles = max(len(tile.title) for tile in tiles)
    return across, max(1, min(room, WIDEST, max(own, titles)))


def _captions(tiles: Sequence[Tile], width: int) -> Iterator[RenderableType]:
    captioned = [tile for tile in tiles if tile.caption]
    if captioned:
        indent = max(len(safe(tile.title)) for tile in captioned) + 2
        table = Table.grid(padding=(0, 2, 0, 0))
        table.width = width
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold", ratio=1)
        for tile in captioned:
            table.add_row(Text(safe(tile.title)), Text(_wrapped(safe(tile.caption), width - indent)))
        yield table


def _wrapped(words: str, width: int) -> str:
    """Wrap text to lines; a number stays with the word before it."""
    tied = re.sub(r" (?![^\W\d])", "\0", words)
    return "\n".join(textwrap.wrap(tied, max(width, 1), break_on_hyphens=False)).replace("\0", " ")


class _Strip:
    """Renders tiles in a line, each below its title, centred in a square of `side` x `side` pixels."""

    def __init__(self, tiles: Sequence[Tile], side: int) -> None:
        self._tiles, self._side = tiles, side

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        titles = (set_cell_size(safe(tile.title), self._side) for tile in self._tiles)
        yield Text((" " * GAP).join(titles).rstrip(), "dim", no_wrap=True)
        grids = [_grid(tile, self._side) for tile in self._tiles]
        height = max(len(grid) for grid in grids)
        for y in range(0, height, 2):
            for k, grid in enumerate(grids):
                if k:
                    yield Segment(" " * GAP)
                for upper, lower in zip(*_two_lines(grid, y, self._side), strict=True):
                    yield _cell(upper, lower)
            yield Segment.line()


def _two_lines(grid: list[list[Pixel | None]], y: int, side: int) -> tuple[list[Pixel | None], list[Pixel | None]]:
    empty: list[Pixel | None] = [None] * side
    return (grid[y] if y < len(grid) else empty), (grid[y + 1] if y + 1 < len(grid) else empty)


def _grid(tile: Tile, side: int) -> list[list[Pixel | None]]:
    """Shrink the tile to fit `side` pixels and centre it in a square of them; None outside of it."""
    from PIL import Image  # late: help and completion must not wait for it

    picture = Image.frombytes("RGB", (tile.width, tile.height), tile.rgb)
    scale = min(1.0, side / max(picture.size))
    width, height = (max(1, round(scale * length)) for length in picture.size)
    rgb = picture.resize((width, height), Image.Resampling.LANCZOS).tobytes()
    pixels: list[Pixel] = [(rgb[k], rgb[k + 1], rgb[k + 2]) for k in range(0, len(rgb), 3)]
    left, above = (side - width) // 2, (side - height) // 4 * 2  # whole cells, so that edges stay sharp
    before: list[Pixel | None] = [None] * left
    after: list[Pixel | None] = [None] * (side - width - left)
    lines: list[list[Pixel | None]] = [[None] * side for _ in range(above)]
    lines += [[*before, *pixels[y * width : (y + 1) * width], *after] for y in range(height)]
    return lines


def _cell(upper: Pixel | None, lower: Pixel | None) -> Segment:
    if upper is None:
        return Segment(" ")
    ground = Color.from_rgb(*lower) if lower else None
    return Segment("▀", Style(color=Color.from_rgb(*upper), bgcolor=ground))
