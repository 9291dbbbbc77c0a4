"""Pictures in the terminal: two pixels a cell, in the right place and shape, nothing where colours are missing."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style

from ssl_cli.events import Pictured, Tile
from ssl_cli.ui.preview import NARROWEST, WIDEST, render
from tests.ui.events import HOSTILE

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
CAPTION = "crop 61 % at 12,4; flip; jitter bri 1.20 con 0.80 sat 1.10 hue +0.04; gray; blur 1.3"


def plain(title: str, width: int, height: int, colour: tuple[int, int, int] = RED, caption: str = "") -> Tile:
    return Tile(title=title, width=width, height=height, rgb=bytes(colour) * (width * height), caption=caption)


def row(views: int, side: int = 224, original: tuple[int, int] = (500, 375)) -> Pictured:
    tiles = [plain("original", *original), *(plain(f"view {k + 1}", side, side, BLUE, CAPTION) for k in range(views))]
    return Pictured(name="photos/a.jpg", tiles=tuple(tiles))


def written(picture: Pictured, width: int, **console: object) -> str:
    """What a terminal gets."""
    settings = {"force_terminal": True, "color_system": "truecolor", "width": width, "_environ": {}, **console}
    stream = io.TextIOWrapper(io.BytesIO(), encoding=str(settings.pop("encoding", "utf-8")))
    Console(file=stream, **settings).print(render(picture, width))  # type: ignore[arg-type]
    stream.seek(0)
    return stream.read()


def text(picture: Pictured, width: int) -> list[str]:
    """The lines as they are read, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", written(picture, width)).splitlines()


def cells(picture: Pictured, width: int = 80) -> list[list[tuple[str, Style | None]]]:
    """Lines of characters with their styles."""
    console = Console(width=width, force_terminal=True, color_system="truecolor", file=io.StringIO(), _environ={})
    lines = console.render_lines(render(picture, width), pad=False)
    return [[(c, segment.style) for segment in line for c in segment.text] for line in lines]


def colours(cell: tuple[str, Style | None]) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    style = cell[1]
    assert style is not None
    pair = (style.color, style.bgcolor)
    upper, lower = (tuple(colour.triplet) if colour and colour.triplet else None for colour in pair)
    return upper, lower


def test_a_cell_shows_the_pixel_above_and_the_pixel_below() -> None:
    rgb = bytes([*RED, *GREEN, *BLUE, *RED, *GREEN, *BLUE])  # two columns, three lines
    lines = cells(Pictured(name="n", tiles=(Tile(title="", width=2, height=3, rgb=rgb),)))
    where = [line for line in lines if any(c == "▀" for c, _ in line)]
    assert [[colours(cell) for cell in line if cell[0] == "▀"] for line in where] == [
        [(RED, BLUE), (GREEN, RED)],
        [(GREEN, None), (BLUE, None)],  # the last line has nothing below
    ]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("views", [1, 2, 3, 6, 9])
def test_it_fits_and_is_as_wide_as_can_be(views: int, width: int) -> None:
    lines = text(row(views), width)
    assert max(cell_len(line) for line in lines) <= width
    sides = {len(run) for line in lines for run in re.findall("▀+", line)}
    (side,) = sides
    assert NARROWEST <= side <= WIDEST
    across = max(len(re.findall("▀+", line)) for line in lines)
    assert side == WIDEST or across * (side + 1) - 1 > width - across  # no column more for every tile


@pytest.mark.parametrize(("views", "width", "across"), [(2, 80, 3), (3, 80, 4), (6, 120, 7), (6, 80, 4)])
def test_tiles_stand_side_by_side_where_there_is_room(views: int, width: int, across: int) -> None:
    lines = text(row(views), width)
    titles = [re.split(r"  +", line.strip()) for line in lines if re.match(r"(original|view \d+)( {3,}|$)", line)]
    assert [len(line) for line in titles] == [across, views + 1 - across][: len(titles)]
    assert [title for line in titles for title in line] == ["original", *(f"view {k + 1}" for k in range(views))]


@pytest.mark.parametrize("width", [80, 120])
def test_pictures_keep_their_shape(width: int) -> None:
    """A cell is twice as high as wide, and holds two pixels: a square has half as many lines as columns."""
    lines = cells(row(2), width)
    found: dict[tuple[int, ...], list[list[int]]] = {RED: [], BLUE: []}
    for line in lines:
        for colour, spans in found.items():
            columns = [k for k, cell in enumerate(line) if cell[0] == "▀" and colours(cell)[0] == colour]
            if columns:
                spans.append(columns)
    side = len(found[BLUE][0]) // 2
    assert len(found[BLUE]) == -(-side // 2)
    assert len(found[RED][0]) == side
    assert abs(2 * len(found[RED]) - side * 375 / 500) <= 2


def test_small_pictures_are_not_enlarged_and_large_ones_keep_hard_edges() -> None:
    assert {len(run) for line in text(row(2, 18, (18, 18)), 120) for run in re.findall("▀+", line)} == {18}
    half = bytes([*([0] * 60), *([255] * 60)] * 40)
    lines = cells(Pictured(name="", tiles=(Tile(title="", width=40, height=40, rgb=half),)))
    line = next(line for line in lines if any(c == "▀" for c, _ in line))
    assert [colours(cell)[0] for cell in line] == [(0, 0, 0)] * 20 + [(255, 255, 255)] * 20


@pytest.mark.parametrize("width", [40, 52, 60, 80, 88])
def test_captions_stand_below_and_are_whole(width: int) -> None:
    lines = text(row(2), width)
    below = lines[max(k for k, line in enumerate(lines) if "▀" in line) + 1 :]
    assert " ".join(" ".join(below).split()) == f"view 1 {CAPTION} view 2 {CAPTION}"
    assert not any(re.match(r"\s*[-+\d]", line) for line in below)  # a number stays with its name


@pytest.mark.parametrize(
    "console",
    [
        {"color_system": None},
        {"no_color": True},
        {"_environ": {"NO_COLOR": "1"}},
        {"color_system": "auto", "_environ": {"TERM": "dumb"}},
        {"color_system": "auto", "force_terminal": False},
        {"encoding": "ascii"},
    ],
)
def test_nothing_at_all_without_colours_or_the_half_block(console: dict[str, object]) -> None:
    assert written(row(2), 80, **console).strip() == ""


def test_names_are_not_obeyed() -> None:
    picture = Pictured(name=HOSTILE, tiles=(plain(HOSTILE, 20, 20, caption=HOSTILE),))
    shown = written(picture, 120)
    assert set(re.findall(r"\x1b.", shown)) == {"\x1b["}
    assert re.search(r"\x1b\[[0-9;]*[^0-9;m]", shown) is None
    assert "\x07" not in shown
    assert "[red]" in shown


def test_a_long_name_takes_one_line() -> None:
    lines = text(Pictured(name="x" * 500, tiles=(plain("original", 20, 20),)), 80)
    assert [len(line) for line in lines[:2]] == [80, len("original")]
