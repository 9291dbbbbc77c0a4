"""Render what other times and machines would give, as a table; pure functions."""

import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ssl_cli.config.units import format_epochs, format_seconds
from ssl_cli.events import Sizing
from ssl_cli.ui.text import safe

NUMBERS = {"pixels", "batch", "epochs"}


def table(rows: Sequence[Sizing]) -> RenderableType:
    """Render one row for each time and machine; the planned run is marked."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", show_edge=False)
    for name in ("time", "on", "network", "pixels", "batch", "epochs", ""):
        shown.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold")
    for row in rows:
        cells = (
            format_seconds(row.seconds), row.machine, safe(row.network), f"{row.size:,}", f"{row.batch:,}",
            format_epochs(row.epochs), "planned" if row.chosen else "",
        )  # fmt: skip
        shown.add_row(*(Text(cell) for cell in cells), style="bold" if row.chosen else "")
    return shown


def lines(rows: Sequence[Sizing], width: int) -> list[str]:
    """Return the table as lines of plain text, without control bytes."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as written:
        console.print(table(rows))
    return [line.rstrip() for line in written.get().splitlines()]


def document(rows: Sequence[Sizing]) -> list[dict[str, Any]]:
    """Return the rows as `--json` has them."""
    return [
        {
            "machine": row.machine, "seconds": row.seconds, "network": row.network, "size": row.size,
            "batch": row.batch, "epochs": row.epochs, "planned": row.chosen,
        }
        for row in rows
    ]  # fmt: skip
