"""Draw a study as PNG and SVG with matplotlib, which the extra `plot` installs; without it there are no files."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from ssl_cli import disk
from ssl_cli.names import counted
from ssl_cli.study.simclr_v2 import kind_of
from ssl_cli.study.summary import COSTS, QUALITIES, RIVALRY, Row, Summary
from ssl_cli.study.table import ALONE, OPERATIONS

AUGMENTATIONS = "augmentations"
STEM, FORMATS = "study", ("png", "svg")
MISSING = "Charts as files need matplotlib: pip install 'sslcli[plot]', then sslcli study show DIR."
UNITS = {"seconds": ("minutes of a run", 1 / 60), "peak_memory": ("peak memory in GB", 1e-9), "batch": ("batch", 1.0)}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which people with colour blindness distinguish."""
MARKERS, HALVED = ("o", "s", "^"), "half-"


def draw(summary: Summary, folder: Path) -> list[Path]:
    """Write the charts of a study to its folder and return their paths; nothing where matplotlib is missing.

    Raises:
        ResourceError: the disk is full, or cannot be written.
    """
    if not any(summary.quality in row.means for row in summary.rows):
        return []
    try:
        from matplotlib.figure import Figure  # late, and without pyplot: no window, no global state
    except ImportError:
        return []
    if summary.book.asked.name == RIVALRY:
        figure = _fronts(Figure, summary)
    elif summary.book.asked.name == AUGMENTATIONS:
        figure = _matrix(Figure, summary)
    elif len(summary.groups) > 1:
        figure = _by_labels(Figure, summary)
    else:
        figure = _intervals(Figure, summary)
    seeds = counted(summary.n, "seed")
    bars = "; bars are standard errors" if summary.n > 1 and summary.book.asked.name != AUGMENTATIONS else ""
    figure.suptitle(f"{summary.book.asked.name}: {seeds}{bars}", fontsize=10)
    paths = []
    for kind in FORMATS:
        content = BytesIO()
        figure.savefig(content, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        disk.write_bytes(path := folder / f"{STEM}.{kind}", content.getvalue())
        paths.append(path)
    return paths


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    methods = dict.fromkeys(row.arm.method for row in rows)
    return {method: COLOURS[number % len(COLOURS)] for number, method in enumerate(methods)}


def _fronts(figure_kind: Any, summary: Summary) -> Any:
    """Draw each quality against each cost, the arms on the Pareto front joined; hollow are those of less time."""
    figure = figure_kind(figsize=(11, 3.6 * len(summary.qualities)), layout="constrained")
    panels = figure.subplots(len(summary.qualities), len(COSTS), squeeze=False)
    colours, shapes, full = _colours(summary.rows), _shapes(summary.rows), max(row.arm.share for row in summary.rows)
    for line, quality in enumerate(summary.qualities):
        for place, cost in enumerate(COSTS):
            panel, (words, scale) = panels[line][place], UNITS[cost]
            rows = [row for row in summary.rows if quality in row.means and cost in row.cost]
            for row in rows:
                mean = row.means[quality]
                x, y, error = row.cost[cost] * scale, 100 * mean.value, 100 * (mean.error or 0)
                colour, fill = colours[row.arm.method], None if row.arm.share == full else "white"
                panel.errorbar(
                    x, y, yerr=error, fmt=shapes[row.arm.name], color=colour, markerfacecolor=fill or colour,
                    capsize=3, label=row.arm.name,
                )  # fmt: skip
            on = [summary.row(name) for name in summary.front(cost, quality)]
            xs, ys = [row.cost[cost] * scale for row in on], [100 * row.means[quality].value for row in on]
            panel.step(xs, ys, where="post", color="#777777", linewidth=1, zorder=0)
            panel.set_xlabel(words)
            panel.set_ylabel(f"{QUALITIES[quality]} top-1 in %")
            panel.margins(0.15)
            if cost == "batch":
                panel.set_xscale("log", base=2)
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4), fontsize=8, frameon=False)
    return figure


def _shapes(rows: Sequence[Row]) -> dict[str, str]:
    """Return the marker of each arm: a circle for the smallest batch of its method, a square for a larger one."""
    smallest = {row.arm.method: min(r.arm.batch for r in rows if r.arm.method == row.arm.method) for row in rows}
    return {row.arm.name: "o" if row.arm.batch == smallest[row.arm.method] else "s" for row in rows}


def _intervals(figure_kind: Any, summary: Summary) -> Any:
    """Draw the means of each quality, an arm a line, each with its standard error."""
    rows = [row for row in summary.rows if summary.quality in row.means]
    size = (4.6 * len(summary.qualities) + 1.5, 0.36 * len(rows) + 1.6)
    figure, colours = figure_kind(figsize=size, layout="constrained"), _colours(rows)
    panels = figure.subplots(1, len(summary.qualities), squeeze=False, sharey=True)[0]
    for panel, quality in zip(panels, summary.qualities, strict=True):
        for place, row in enumerate(rows):
            if (mean := row.means.get(quality)) is not None:
                error = 100 * (mean.error or 0)
                colour = colours[row.arm.method]
                panel.errorbar(100 * mean.value, place, xerr=error, fmt="o", color=colour, capsize=3)
        panel.set_yticks(range(len(rows)), [row.arm.name for row in rows])
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.set_xlabel(f"{QUALITIES[quality]} top-1 in %")
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    return figure


def _by_labels(figure_kind: Any, summary: Summary) -> Any:
    """Draw the accuracy against the labels, a line for each way to use them; of the smaller network dashed."""
    figure = figure_kind(figsize=(8.5, 5.4), layout="constrained")
    panel, place = figure.subplots(), {group: number for number, group in enumerate(summary.groups)}
    rows = [row for row in summary.rows if summary.quality in row.means and row.arm.group]
    kinds = dict.fromkeys(kind_of(row.arm.name) for row in rows)
    for number, kind in enumerate(kinds):
        means = {row.arm.group: row.means[summary.quality] for row in rows if kind_of(row.arm.name) == kind}
        values = [100 * mean.value for mean in means.values()]
        errors = [100 * (mean.error or 0) for mean in means.values()]
        xs = [place[group] + 0.02 * (number - len(kinds) / 2) for group in means]  # apart, so that bars are seen
        panel.errorbar(
            xs, values, yerr=errors, color=COLOURS[number % len(COLOURS)], marker=MARKERS[number // len(COLOURS)],
            capsize=3, label=kind, linestyle="--" if kind.startswith(HALVED) else "-",
        )  # fmt: skip
    panel.set_xticks(range(len(place)), list(place))
    panel.set_ylabel(f"{QUALITIES[summary.quality]} top-1 in %")
    panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    return figure


def _matrix(figure_kind: Any, summary: Summary) -> Any:
    """Draw SimCLR's figure 5: pairs of operations, single ones on the diagonal."""
    found = {
        row.arm.name: 100 * row.means[summary.quality].value for row in summary.rows if summary.quality in row.means
    }
    table = [
        [found.get(a if a == b else f"{a}{ALONE}{b}", found.get(f"{b}{ALONE}{a}", float("nan"))) for b in OPERATIONS]
        for a in OPERATIONS
    ]
    figure = figure_kind(figsize=(6.4, 5.4), layout="constrained")
    panel = figure.subplots()
    picture = panel.imshow(table, cmap="viridis")
    for line, values in enumerate(table):
        for place, value in enumerate(values):
            if value == value:
                colour = "black" if picture.norm(value) > 0.6 else "white"
                panel.text(place, line, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
    panel.set_xticks(range(len(OPERATIONS)), OPERATIONS, rotation=45)
    panel.set_yticks(range(len(OPERATIONS)), OPERATIONS)
    figure.colorbar(picture, label=f"{QUALITIES[summary.quality]} top-1 in %")
    return figure
