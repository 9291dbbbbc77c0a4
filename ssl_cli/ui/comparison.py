"""Show runs side by side: a column for each, a row for each setting that differs and each result."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from ssl_cli.config.units import format_bytes, format_epochs, format_seconds
from ssl_cli.ui.text import percent, rate, safe, sparkline

if TYPE_CHECKING:
    from ssl_cli.comparison import Comparison
    from ssl_cli.runs import Run

CURVE = 24
"""Characters of a curve."""
ROWS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "loss": ("loss", "{:.3f}".format),
    "knn": ("kNN", percent),
    "linear": ("linear", percent),
    "classifier": ("classifier", percent),
    "epoch": ("epochs", lambda value: format_epochs(round(value, 1))),
    "step": ("steps", "{:,}".format),
    "seconds": ("time", format_seconds),
    "rate": ("images/s", rate),
    "parameters": ("parameters", "{:,}".format),
    "bytes": ("size", format_bytes),
}
"""Label and format of each of `comparison.RESULTS`."""
BEST: Mapping[str, Callable[[Sequence[float]], float]] = {"knn": max, "linear": max, "classifier": max}
"""Results of which the best one is marked."""


def table(found: "Comparison", names: Sequence[str], curves: Mapping[str, Sequence[Sequence[float]]]) -> Table:
    """Render a comparison.

    Args:
        found: the runs.
        names: of the runs, for the head.
        curves: for the label of each row of curves, the values of each run.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    made.add_column("", style="dim", overflow="fold")
    for name in names:
        made.add_column(safe(name), overflow="fold")
    made.add_row("state", *(_cell(one.run.state) for one in found.runs))
    for key, values in found.changed.items():
        made.add_row(safe(key), *(_cell(value) for value in values))
    made.add_section()
    for name, (label, words) in ROWS.items():
        values = [one.value(name) for one in found.runs]
        known = [value for value in values if value is not None]
        if known:
            best = BEST[name](known) if name in BEST and len(known) > 1 else None
            style = ["bold" if value is not None and value == best else "" for value in values]
            text = [words(value) if value is not None else "" for value in values]
            if name == "knn":
                text = knn([one.run for one in found.runs])
            elif name == "linear":
                text = [linear(one.run) for one in found.runs]
            cells = [Text(said, how) if said else _cell(None) for said, how in zip(text, style, strict=True)]
            made.add_row(label, *cells)
    made.add_section()
    for label, lines in curves.items():
        if any(len(line) > 1 for line in lines):
            made.add_row(label, *(Text(sparkline(line, CURVE), "cyan") for line in lines))
    return made


def knn(runs: Sequence["Run"]) -> list[str]:
    """Word the kNN of runs, with k where they differ in it; empty where there is none."""
    with_k = len({run.knn_k for run in runs if run.knn is not None}) > 1
    ks = [f" (k {run.knn_k})" if with_k and run.knn_k is not None else "" for run in runs]
    return ["" if run.knn is None else percent(run.knn) + k for run, k in zip(runs, ks, strict=True)]


def linear(run: "Run") -> str:
    """Word the linear probe of a run, with its labels where they are few; empty where there is none."""
    few = f" ({run.linear_labels})" if run.linear_labels is not None else ""
    return "" if run.linear is None else percent(run.linear) + few


def _cell(value: Any) -> Text:
    """Word a setting as a settings file has it."""
    if value is None:
        return Text("-", "dim")
    if isinstance(value, bool):
        return Text(str(value).lower())
    return Text(safe(f"{value:g}" if isinstance(value, float) else value))
