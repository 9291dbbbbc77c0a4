"""`sslcli runs`: list the runs below a folder with their settings, state and results, or show some side by side."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_cli.commands import options
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import expanded, is_folder, shown
from ssl_cli.ui.stream import write_result

if TYPE_CHECKING:
    from rich.table import Table

    from ssl_cli.runs import Run

COMPARE = "compare"
WIDE = 200
"""Columns where the output is no terminal."""
EPILOG = options.examples(
    "All runs in runs/: sslcli runs",
    "Those below another folder: sslcli runs runs/photos",
    "Two of them, or more, side by side: sslcli runs compare runs/photos runs/first",
    "Their curves as a picture: sslcli runs compare runs/photos runs/first --plot curves.png",
    "For a program: sslcli runs --json",
)
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FOLDER | compare RUN RUN...",
        help="Folder that holds runs, at any depth up to four (default: runs); or runs to compare.",
        show_default=False,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="With compare: the curves as FILE.png.", rich_help_panel=options.OUTPUT),
]


def runs(words: Words = None, plot: Plot = None, json: options.Json = False, debug: options.Debug = False) -> int:
    """List runs: method, network, images, epochs, loss, accuracies, size and state; the newest last. Or compare."""
    given = words or ["runs"]
    if given[0] == COMPARE and (len(given) > 1 or not is_folder(Path(COMPARE))):
        return _compare(given[1:], plot, as_json=json)
    if plot is not None:
        raise UsageError("--plot is for sslcli runs compare.", "sslcli runs compare RUN RUN --plot FILE.png")
    if len(given) > 1:
        raise UsageError(
            f"{len(given)} folders are given, and one is listed.", "To compare: sslcli runs compare RUN RUN"
        )
    return _list(given[0], as_json=json)


def _compare(names: list[str], plot: Path | None, *, as_json: bool) -> int:
    if not names or (len(names) < 2 and plot is None):
        raise UsageError("Two runs at least are compared.", "sslcli runs compare RUN RUN")
    from ssl_cli.commands.preflight import picture as require_picture

    if len({Path(name).resolve() for name in names}) < len(names):
        raise UsageError("A run is named twice.", "Name different runs.")
    if plot is not None:
        require_picture(plot, "curves")
    from ssl_cli import records
    from ssl_cli.comparison import compare

    folders = [expanded(name) for name in names]
    events = [list(records.events(folder)) for folder in folders]
    found = compare(folders, events)
    if plot is not None:
        _refuse_among_images(plot, folders)
    from ssl_cli.curves import curves_of, draw  # imports Pillow: after what can be refused

    curves = list(map(curves_of, events))
    if plot is not None:
        from ssl_cli import disk

        disk.make_folder(plot.absolute().parent)
        disk.write_bytes(plot, draw(dict(zip(names, curves, strict=True))))
    picture = None if plot is None else str(plot)
    if as_json:
        from ssl_cli.ui.sinks import write_json

        points = {name: [list(map(list, of.get(name, ()))) for of in curves] for name in ("loss", "knn")}
        write_json({"schema": 1, "command": "runs compare", **found.document(), "curves": points, "plot": picture})
        return 0
    from ssl_cli.ui.comparison import table

    labels = {"loss": "loss curve", "knn": "kNN curve"}
    lines = {label: [[value for _, value in of.get(name, ())] for of in curves] for name, label in labels.items()}
    _write(table(found, names, lines))
    if picture is not None:
        write_result(f"curves: {shown(picture)}\n")
    return 0


def _refuse_among_images(plot: Path, runs: Sequence[Path]) -> None:
    from ssl_cli.config.images import refuse_among_images
    from ssl_cli.runs import settings_of

    for run in runs:
        data = settings_of(run).get("data", {})
        places = [data.get("source"), data.get("test")]
        names = [name for place in places for name in (place if isinstance(place, list) else [place])]
        refuse_among_images(plot, *(name for name in names if isinstance(name, str)))


def _list(folder: str, *, as_json: bool) -> int:
    root = expanded(folder)
    if not is_folder(root):
        raise DataError(
            f"There is no folder {shown(folder)}.", "Give one that holds runs; pretrain makes them in runs/."
        )
    from ssl_cli.runs import find_runs

    found, whole = find_runs(root)
    if as_json:
        from ssl_cli.ui.sinks import write_json

        document = {"schema": 1, "command": "runs", "runs": [dataclasses.asdict(run) for run in found], "all": whole}
        write_json(document)
        return 0
    if not found:
        write_result(f"There is no run in {shown(folder)}.\n")
        return 0
    _print(root, found)
    if not whole:
        write_result("More folders were left out; give one that holds fewer.\n")
    return 0


def _print(root: Path, found: "list[Run]") -> None:
    """Write a table; where the terminal is narrow rich folds the cells."""
    from rich import box
    from rich.table import Table

    from ssl_cli.ui.comparison import knn
    from ssl_cli.ui.text import safe

    rows = [_cells(root, run, of_knn) for run, of_knn in zip(found, knn(found), strict=True)]
    columns = {name: [cells[name] for cells in rows] for name in rows[0]}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    filled = [name for name, cells in columns.items() if any(cells)]
    for name in filled:
        right = name in {"step", "epoch", "batch", "loss", "kNN", "linear", "classifier", "size"}
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in zip(*(columns[name] for name in filled), strict=True):
        table.add_row(*map(safe, row))
    _write(table)


def _write(table: "Table") -> None:
    """Write a table to stdout, as wide as the terminal."""
    import sys

    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, markup=False, width=WIDE)
    with console.capture() as captured:
        console.print(table)
    write_result("\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n") + "\n")


def _cells(root: Path, run: "Run", of_knn: str) -> dict[str, str]:
    """Word a run, whose kNN is worded already."""
    from ssl_cli.config.units import format_bytes, format_epochs, format_seconds
    from ssl_cli.runs import age
    from ssl_cli.ui.comparison import linear
    from ssl_cli.ui.text import percent

    path = Path(run.path)
    return {
        "run": str(path.relative_to(root)) if path != root else str(path),
        "state": f"{run.state}{f': {run.reason}' if run.reason else ''}",
        "method": run.method or "",
        "network": run.network or "",
        "images": run.data or "",
        "epoch": format_epochs(round(run.epoch, 1)) if run.epoch is not None else "",
        "batch": f"{run.batch:,}" if run.batch is not None else "",
        "loss": f"{run.loss:.3f}" if run.loss is not None else "",
        "kNN": of_knn,
        "linear": linear(run),
        "classifier": percent(run.classifier) if run.classifier is not None else "",
        "size": format_bytes(run.bytes),
        "age": format_seconds(age(run)),
    }
