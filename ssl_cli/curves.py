"""Curves of one run or several, from their `metrics.jsonl`, as a PNG: `curves.png` in a run folder, and comparisons."""

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ssl_cli import disk, records
from ssl_cli.lettering import drawable, font
from ssl_cli.names import shown

FILE = "curves.png"
MOST = 2000
"""Points of a curve; of more every second one is dropped."""
SCALE = 2
"""The picture is drawn so many times as large, and shrunk, which smooths its lines."""
PANEL, MARGIN, COLUMNS = (440, 250), (56, 34, 14, 30), 2
"""Width and height of a panel, its margins left, top, right and bottom, in pixels; panels side by side."""
LINE, SMALL, LARGE = 20, 11, 13
PAPER, INK, FAINT, GRID = (255, 255, 255), (20, 20, 20), (110, 110, 110), (228, 228, 228)
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (140, 86, 75), (23, 190, 207))
TITLES = {
    "loss": "loss (dotted: chance)",
    "knn": "kNN on training images, top-1",
    "top1": "contrastive top-1",
    "spread": "spread of z",
    "effective_rank": "effective rank of z",
    "lr": "learning rate",
}
"""Panels, in order, by the name of their curve."""

Point = tuple[float, float]
"""Epoch and value."""


@dataclass
class Curve:
    """A number over the epochs, thinned to at most `MOST` points; of several for a step the last one counts."""

    points: list[tuple[float, float, float]] = field(default_factory=list)
    stride: int = 1
    seen: int = 0

    def add(self, step: float, epoch: float, value: float) -> None:
        """Append the value at a step; later ones than that are of a process whose work was lost."""
        while self.points and self.points[-1][0] >= step:
            self.points.pop()
        if self.seen % self.stride == 0:
            self.points.append((step, epoch, value))
        self.seen += 1
        if len(self.points) > MOST:
            self.points, self.stride = self.points[::2], self.stride * 2

    def __iter__(self) -> Iterator[Point]:
        return ((epoch, value) for _, epoch, value in self.points)


def curves_of(events: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Return the curves of a run's events: those of `TITLES`, and `chance`; what was not logged is left out."""
    found: dict[str, Curve] = {}
    per_step = 0.0
    for event in events:
        step, epoch = records.number(event.get("step")), records.number(event.get("epoch"))
        if step is None:
            continue
        if event["event"] == "stepped" and epoch is not None:
            per_step = epoch / step if step > 0 else per_step
            values: Mapping[str, Any] = {**records.table(event, "numbers"), **event}
            for name in ("loss", "chance", "top1", "spread", "effective_rank", "lr"):
                if (value := records.number(values.get(name))) is not None:
                    found.setdefault(name, Curve()).add(step, epoch, value)
        top1 = records.share(records.table(event, "result").get("top1"))
        if event["event"] == "evaluated" and event.get("name") == "online_knn" and top1 is not None:
            found.setdefault("knn", Curve()).add(step, per_step * step, top1)
    return found


def write(folder: Path) -> bool:
    """Draw the curves of a run into its folder; return whether there was anything to draw.

    Raises:
        ResourceError: they cannot be written.
    """
    curves = curves_of(records.events(folder))
    if len(list(curves.get("loss", ()))) < 2:
        return False
    disk.write_bytes(folder / FILE, draw({folder.name: curves}))
    return True


def draw(runs: Mapping[str, Mapping[str, Curve]]) -> bytes:
    """Draw the curves of runs, a panel for each number that any of them logged, as a PNG.

    Args:
        runs: curves by name, by the name of the run.
    """
    panels = [name for name in TITLES if any(name in curves for curves in runs.values())]
    rows = -(-max(len(panels), 1) // COLUMNS)
    head = LINE * (len(runs) + 1)
    width, height = COLUMNS * PANEL[0], head + rows * PANEL[1]
    picture = Image.new("RGB", (SCALE * width, SCALE * height), PAPER)
    pen = ImageDraw.Draw(picture)
    for place, name in enumerate(runs):
        y = SCALE * (LINE // 2 + place * LINE)
        pen.line((SCALE * 16, y + SCALE * 7, SCALE * 40, y + SCALE * 7), COLOURS[place % len(COLOURS)], 3 * SCALE)
        _write(pen, (48, LINE // 2 + place * LINE), shown(drawable(name), 100), LARGE)
    epochs = _span((x for curves in runs.values() for name in panels for x, _ in curves.get(name, ())), whole=True)
    for place, name in enumerate(panels):
        left, top = (place % COLUMNS) * PANEL[0], head + (place // COLUMNS) * PANEL[1]
        lines = [curves.get(name, ()) for curves in runs.values()]
        chance = [curves.get("chance", ()) if name == "loss" else () for curves in runs.values()]
        _panel(pen, (left, top), TITLES[name], epochs, [list(line) for line in lines], [list(line) for line in chance])
    file = io.BytesIO()
    picture.reduce(SCALE).save(file, format="PNG")
    return file.getvalue()


def _panel(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], title: str, xs: tuple[float, float],
    lines: Sequence[Sequence[Point]], dotted: Sequence[Sequence[Point]],
) -> None:  # fmt: skip
    """Draw one panel: axes with round numbers, a line for each run, and dots for its level of chance."""
    left, top = at[0] + MARGIN[0], at[1] + MARGIN[1]
    right, bottom = at[0] + PANEL[0] - MARGIN[2], at[1] + PANEL[1] - MARGIN[3]
    points = [point for line in (*lines, *dotted) for point in line]
    ys = _span(y for _, y in points)
    _write(pen, (left, at[1] + 10), title, LARGE)

    def place(point: Point) -> tuple[float, float]:
        x = left + (right - left) * (point[0] - xs[0]) / (xs[1] - xs[0])
        return SCALE * x, SCALE * (bottom - (bottom - top) * (point[1] - ys[0]) / (ys[1] - ys[0]))

    for value in _ticks(*ys):
        _, y = place((xs[0], value))
        pen.line((SCALE * left, y, SCALE * right, y), GRID, SCALE)
        _write(pen, (left - 6, y / SCALE), f"{value:.4g}", SMALL, FAINT, "rm")
    for value in _ticks(*xs):
        x, _ = place((value, ys[0]))
        _write(pen, (x / SCALE, bottom + 5), f"{value:g}", SMALL, FAINT, "mt")
    _write(pen, (right, bottom + 17), "epoch", SMALL, FAINT, "rt")
    pen.line((SCALE * left, SCALE * bottom, SCALE * right, SCALE * bottom), FAINT, SCALE)
    for number, (line, level) in enumerate(zip(lines, dotted, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        for point in level[:: max(1, len(level) // 60)]:
            x, y = place(point)
            pen.ellipse((x - SCALE, y - SCALE, x + SCALE, y + SCALE), colour)
        if len(line) == 1:
            x, y = place(line[0])
            pen.ellipse((x - 3 * SCALE, y - 3 * SCALE, x + 3 * SCALE, y + 3 * SCALE), colour)
        pen.line([place(point) for point in line], colour, round(1.6 * SCALE), joint="curve")


def _span(values: Iterable[float], *, whole: bool = False) -> tuple[float, float]:
    """Return the ends of an axis for these values, from 0 if `whole`, with room above and below otherwise."""
    found = list(values) or [0.0, 1.0]
    low, high = (min(0.0, min(found)) if whole else min(found)), max(found)
    if high - low <= 1e-9 * max(abs(high), abs(low), 1e-9):
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    room = 0.0 if whole else 0.05 * (high - low)
    return low - room, high + room


def _ticks(low: float, high: float) -> Iterator[float]:
    """Yield round numbers, about five, between two ends."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 6)
    first = math.ceil(low / step - 1e-9)
    for k in range(first, math.floor(high / step + 1e-9) + 1):
        yield round(k * step, 12)


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int,
    ink: tuple[int, int, int] = INK, anchor: str = "lt",
) -> None:  # fmt: skip
    pen.text((SCALE * at[0], SCALE * at[1]), text, fill=ink, font=font(SCALE * size), anchor=anchor)
