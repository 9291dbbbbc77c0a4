"""`sslcli runs`: list the runs below a folder with their settings, state and results."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_cli.commands import options
from ssl_cli.errors import DataError
from ssl_cli.names import expanded, is_folder, shown
from ssl_cli.ui.stream import write_result

if TYPE_CHECKING:
    from ssl_cli.runs import Run

EPILOG = options.examples(
    "All runs in runs/: sslcli runs",
    "Those below another folder: sslcli runs runs/photos",
    "For a program: sslcli runs --json",
)
Folder = Annotated[str, typer.Argument(metavar="FOLDER", help="Folder that holds runs, at any depth up to four.")]


def runs(folder: Folder = "runs", json: options.Json = False, debug: options.Debug = False) -> int:
    """List runs: method, network, images, epochs, loss, accuracies, size and state; the newest last."""
    root = expanded(folder)
    if not is_folder(root):
        raise DataError(
            f"There is no folder {shown(folder)}.", "Give one that holds runs; pretrain makes them in runs/."
        )
    from ssl_cli.runs import find_runs

    found, whole = find_runs(root)
    if json:
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
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ssl_cli.ui.text import safe

    columns = {name: [cells[name] for cells in (_cells(root, run) for run in found)] for name in _cells(root, found[0])}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    filled = [name for name, cells in columns.items() if any(cells)]
    for name in filled:
        right = name in {"step", "epoch", "batch", "loss", "kNN", "linear", "classifier", "size"}
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in zip(*(columns[name] for name in filled), strict=True):
        table.add_row(*map(safe, row))
    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, markup=False, width=200)
    with console.capture() as captured:
        console.print(table)
    write_result("\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n") + "\n")


def _cells(root: Path, run: "Run") -> dict[str, str]:
    from ssl_cli.config.units import format_bytes, format_epochs, format_seconds
    from ssl_cli.runs import age
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
        "kNN": percent(run.knn) if run.knn is not None else "",
        "linear": percent(run.linear) if run.linear is not None else "",
        "classifier": percent(run.classifier) if run.classifier is not None else "",
        "size": format_bytes(run.bytes),
        "age": format_seconds(age(run)),
    }
