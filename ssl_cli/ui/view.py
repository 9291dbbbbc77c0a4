"""The live display as a picture of the state: pure, so that it can be looked at without a run."""

from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssl_cli.config.units import format_bytes, format_seconds
from ssl_cli.events import Choice, Stepped, Warned
from ssl_cli.ui.screen import Screen
from ssl_cli.ui.text import percent, safe, sparkline

SLOW_DATA = 0.3  # share of the time waiting for images from which on it is worth a colour
WARNINGS_SHOWN = 2


def plan(choices: tuple[Choice, ...]) -> RenderableType:
    """The plan: each choice, its value, its reason."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for choice in choices:
        table.add_row(Text(safe(choice.name)), Text(safe(choice.value)), Text(safe(choice.reason)))
    return table


def panel(command: str, screen: Screen, now: float, began: float, width: int = 80) -> RenderableType:
    """The display at the time `now` of a command that began at `began`, on a terminal of `width` columns."""
    rows = Table.grid(padding=(0, 2), expand=True)
    rows.add_column(style="dim", no_wrap=True, width=10)
    rows.add_column(ratio=1, overflow="fold")
    if screen.latest:
        _numbers(rows, screen, screen.latest, now, width)
    if screen.skipped:
        rows.add_row("skipped", Text(f"{screen.skipped:,} unreadable images, see bad_images.jsonl", "yellow"))
    for warning in screen.warnings[-WARNINGS_SHOWN:]:
        rows.add_row(Text("warning", "yellow"), _warning(warning))
    parts = [_progress(screen, now, began), *([rows] if rows.row_count else [])]
    return Panel(Group(*parts), title=_title(command, screen), title_align="left", box=box.ROUNDED, border_style="cyan")


def _title(command: str, screen: Screen) -> Text:
    words = [f"sslcli {command}", screen.choice("method"), screen.started.out if screen.started else ""]
    return Text(" · ".join(safe(word) for word in words if word), "bold", overflow="ellipsis", no_wrap=True)


def _progress(screen: Screen, now: float, began: float) -> RenderableType:
    if not screen.steps:
        return Text(f"working, {format_seconds(now - began)}")
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True, justify="right")
    left = screen.seconds_left(now)
    if screen.stopped:
        when = "stopped"
    elif screen.finished:
        when = f"done in {format_seconds(screen.finished.seconds)}"
    elif screen.step >= screen.steps:
        when = "measuring quality"
    else:
        when = f"{format_seconds(left)} left" if left is not None else f"first steps, {format_seconds(now - began)}"
    row.add_row(
        ProgressBar(total=screen.steps, completed=screen.step, complete_style="cyan", finished_style="green"),
        Text(f"{screen.step:,}/{screen.steps:,} steps  {when}"),
    )
    return row


def _numbers(rows: Table, screen: Screen, latest: Stepped, now: float, width: int) -> None:
    loss = Text(f"{latest.loss:.4f}", "bold")
    if latest.chance is not None:
        loss.append(f"  chance {latest.chance:.2f}", "dim")
    loss.append("  ")
    loss.append(sparkline(screen.losses, max(8, width - 20 - len(loss))), "cyan")
    rows.add_row("loss", loss)
    rows.add_row("epoch", Text(f"{latest.epoch:.2f}   learning rate {latest.lr:.3g}"))
    speed = Text(f"{latest.rate:,.0f} images/s   {latest.step_seconds:.2f} s/step   ")
    speed.append(f"waiting for data {percent(latest.data_wait)}", "yellow" if latest.data_wait > SLOW_DATA else "")
    rows.add_row("speed", speed)
    rows.add_row("memory", Text(format_bytes(latest.memory)))
    if latest.numbers:
        pairs = (f"{safe(name).replace('_', ' ')} {value:.3f}" for name, value in latest.numbers.items())
        rows.add_row("observed", Text("   ".join(pairs)))
    if screen.saved:
        ago = format_seconds(max(0.0, now - screen.saved.time))
        rows.add_row("saved", Text(f"{safe(Path(screen.saved.path).name)}, {ago} ago"))


def _warning(warning: Warned) -> Text:
    text = Text(safe(warning.message))
    if warning.hint:
        text.append(f" {safe(warning.hint)}", "dim")
    return text
