"""Render the live display from the state; pure functions."""

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssl_cli.config.units import format_bytes, format_seconds
from ssl_cli.events import BOTTLENECK, Choice, Stepped, Warned
from ssl_cli.names import counted, shown
from ssl_cli.signals import STOPPING_SOON
from ssl_cli.ui import bench
from ssl_cli.ui.screen import TRAINING, Screen
from ssl_cli.ui.text import per_step, percent, rate, safe, sparkline

WARNINGS_SHOWN = 2
FRAME = 4  # columns that the panel's border takes
SHORTEST_BAR = 10
SHORTEST_REASON = 20
LONGEST_NAME, ROOM_FOR_VALUE = 19, 11
FOUR_COLUMNS, ROOMY, TWO_COLUMNS = 114, 70, 54
PHASES = {"done": "green", "stopped": "yellow", "failed": "red", "died": "red", "planning": "dim"}

Fact = tuple[str, Text]
"""A name and its value."""
NUMBERS: dict[str, tuple[str, Callable[[float], str]]] = {
    "top1": ("contrastive top-1", percent),
    "train_top1": ("training top-1", percent),
    "teacher_agreement": ("teacher agreement", percent),
    "spread": ("spread", "{:.3f}".format),
    "alignment": ("alignment", "{:.3f}".format),
    "uniformity": ("uniformity", "{:.3f}".format),
    "effective_rank": ("effective rank", "{:.1f}".format),
}
"""Numbers that the engine logs of z, or of logits: label, and format."""
SHARES = ("top1", "train_top1", "teacher_agreement")
"""Those of them that are shares of right answers, which a log line has, too."""


def plan(choices: Sequence[Choice], width: int) -> RenderableType:
    """Render the plan in `width` columns: each choice, its value, its reason.

    A reason stands below its value where the columns are narrower than a word of theirs, such as a path; a word that
    is longer than both columns is not broken, and the line that holds it is longer than `width`.
    """
    cells = [tuple(Text(safe(word)) for word in (choice.name, choice.value, choice.reason)) for choice in choices]
    names = max((name.cell_len for name, _, _ in cells), default=0)
    values = min(max((value.cell_len for _, value, _ in cells), default=0), max(2 * width // 5, SHORTEST_REASON))
    reasons = width - names - values - 4
    return Group(*(_choice(row, names, values, reasons) for row in cells))


def _choice(row: Sequence[Text], names: int, values: int, reasons: int) -> RenderableType:
    """Render a line of the plan, with columns of these widths."""
    name, value, reason = row
    if reasons >= SHORTEST_REASON and _longest(value) <= values and _longest(reason) <= reasons:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True, width=names)
        table.add_column(width=values)
        table.add_column(style="dim", width=reasons)
        table.add_row(*row)
        return table
    below, indent = Text(no_wrap=True, overflow="ignore"), " " * (names + 2)
    for style, text in (("", value), ("dim", reason)):
        for line in wrap(text.plain, max(values + 2 + reasons, 1), break_long_words=False, break_on_hyphens=False):
            below.append(f"\n{indent}" if below else f"{name.plain:<{names}}  ", "" if below else "dim")
            below.append(line, style)
    return below


def _longest(text: Text) -> int:
    return max(map(cell_len, text.plain.split()), default=0)


def plan_lines(choices: Sequence[Choice], width: int) -> list[str]:
    """Return the plan as lines of plain text, without control bytes."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as written:
        console.print(plan(choices, width), crop=False)
    return [line.rstrip() for line in written.get().splitlines()]


def panel(command: str, screen: Screen, now: float, start: float, width: int = 80) -> RenderableType:
    """Render the display at time `now` of a command that started at `start`, in `width` columns."""
    inner = width - FRAME
    parts: list[RenderableType] = [_progress(command, screen, now, start, inner)]
    if screen.stopping and screen.training:
        parts.append(Text(STOPPING_SOON, "bold yellow"))
    top, bottom, room = _rows(inner), _rows(inner), inner - _label(inner) - _gap(inner)
    if screen.latest:
        _loss(top, screen, screen.latest, room)
    if screen.online:
        top.add_row("online kNN", _online(screen, room))
    if screen.calibrated:
        bottom.add_row("epochs", Text(safe(screen.calibrated.message)))
    if screen.saved:
        _saved(bottom, screen, now, room)
    if screen.skipped:
        where = ", see bad_images.jsonl" if command in TRAINING else ""
        bottom.add_row("skipped", Text(f"{counted(screen.skipped, 'unreadable image')}{where}", "yellow"))
    for warning in screen.warnings[-WARNINGS_SHOWN:]:
        bottom.add_row(Text("warning", "yellow"), _warning(warning))
    facts = _facts(screen, screen.latest, inner) if screen.latest else None
    parts += [part for part in (top, facts, bottom) if part is not None and part.row_count]
    colour = "red" if screen.collapsed else PHASES.get(screen.phase if screen.steps else "", "cyan")
    return Panel(
        Group(*parts),
        title=_title(command, screen, inner - 2),
        title_align="left",
        box=box.ROUNDED,
        border_style=colour,
    )


def _gap(inner: int) -> int:
    return 2 if inner >= ROOMY else 1


def _label(inner: int) -> int:
    """Return the width of the first column: where there is room, that of the first column of the facts below."""
    return len("waiting for data") if inner >= TWO_COLUMNS else len("online kNN")


def _rows(inner: int) -> Table:
    rows = Table.grid(padding=(0, _gap(inner)), expand=True)
    rows.add_column(style="dim", no_wrap=True, width=_label(inner))
    rows.add_column(ratio=1, overflow="fold")
    return rows


def _flow(parts: Sequence[Text], width: int) -> Text:
    """Join the parts side by side where `width` has room for them, else one below the other; none is broken."""
    flowing, used = Text(), 0
    for part in parts:
        if used and used + 2 + part.cell_len > width:
            flowing.append("\n")
            used = 0
        elif used:
            flowing.append("  ")
            used += 2
        flowing.append_text(part)
        used += part.cell_len
    return flowing


def _curve(values: Sequence[float], before: Sequence[Text], width: int) -> Text:
    """Append the values as a curve to `before`, in what is left of `width`."""
    line = _flow(before, width)
    room = width - cell_len(line.plain.rpartition("\n")[2]) - 2
    curve = sparkline(values, room) if len(values) > 1 and room > 3 else ""
    return line.append(f"  {curve}", "cyan") if curve else line


def _title(command: str, screen: Screen, width: int) -> Text:
    """Name the command, the method and the run; the middle is cut out where that is longer than `width`."""
    words = [f"sslcli {command}", screen.choice("method"), screen.started.out if screen.started else ""]
    title = " · ".join(safe(word) for word in words if word)
    short = title if len(title) <= width else shown(title, width - 3)
    return Text(short, "bold", overflow="ellipsis", no_wrap=True)


def _progress(command: str, screen: Screen, now: float, start: float, inner: int) -> RenderableType:
    if not screen.steps:
        newest = f"; {bench.line(screen.measured[-1])}" if screen.measured else ""
        if screen.encoded:
            newest = f"; {screen.encoded.done:,} of {screen.encoded.of:,} images"
        return Text(f"{'planning' if command in TRAINING else 'working'}, {format_seconds(now - start)}{newest}")
    done = f" in {format_seconds(screen.seconds)}" if screen.finished and not screen.stopped else ""
    phase = Text(f"{screen.phase}{done}", f"bold {PHASES.get(screen.phase, 'cyan')}")
    words = [Text(f"{screen.step:,}/{screen.steps:,} steps")]
    left = screen.seconds_left(now)
    if screen.phase in {"warm-up", "training"}:
        words.append(Text(f"{format_seconds(left)} left" if left is not None else "first steps"))
    row = Table.grid(padding=(0, 2), expand=True)
    bar = ProgressBar(total=screen.steps, completed=screen.step, complete_style="cyan", finished_style="green")
    if inner - 4 - phase.cell_len - sum(2 + word.cell_len for word in words) < SHORTEST_BAR:
        row.add_row(_flow([phase, *words], inner))
        row.add_row(bar)
        return row
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    row.add_row(phase, bar, Text("  ").join(words))
    return row


def _loss(rows: Table, screen: Screen, latest: Stepped, width: int) -> None:
    parts = [Text(f"{latest.loss:.4f}", "bold")]
    if latest.chance is not None:
        parts.append(Text(f"chance {latest.chance:.2f}", "dim"))
    rows.add_row("loss", _curve(screen.losses, parts, width))
    note, alarming = screen.chance_note()
    if note:
        rows.add_row("", Text(note, "yellow" if alarming else "dim"))


def _online(screen: Screen, width: int) -> Text:
    """Format the latest kNN accuracy, the first one, how it is measured, and the curve of all."""
    tops = [float(event.result["top1"]) for event in screen.online]
    first, how = f"at step {screen.online[0].step:,}", f"k {screen.online[-1].result['k']}, training images"
    if len(tops) == 1:
        return _flow([Text(percent(tops[0]), "bold"), Text(first, "dim"), Text(how, "dim")], width)
    before = [Text(percent(tops[-1]), "bold"), Text(f"{first} {percent(tops[0])}", "dim"), Text(how, "dim")]
    return _curve(tops, before, width)


def _saved(rows: Table, screen: Screen, now: float, width: int) -> None:
    assert screen.saved is not None
    words = [safe(Path(screen.saved.path).name), format_bytes(screen.saved.size) if screen.saved.size else ""]
    if not screen.finished and not screen.stopped:  # the last panel stays on the screen
        words.append(f"{format_seconds(max(0.0, now - screen.saved.time))} ago")
    rows.add_row("saved", _flow([Text(word) for word in words if word], width))


def _warning(warning: Warned) -> Text:
    text = Text(safe(warning.message))
    if warning.hint:
        text.append(f" {safe(warning.hint)}", "dim")
    return text


def _facts(screen: Screen, latest: Stepped, inner: int) -> Table:
    """Render training metrics and metrics of z in one, two or four columns of names and values."""
    groups = [list(_training(latest)), list(_health(screen, latest))]
    if inner >= FOUR_COLUMNS:
        columns = [half for group in groups for half in _halves(group)]
    elif inner >= TWO_COLUMNS:
        columns = groups
    else:
        columns = [[fact for group in groups for fact in group]]
    columns = [column for column in columns if column]
    most = max(LONGEST_NAME, inner // len(columns) - ROOM_FOR_VALUE)
    table = Table.grid(padding=(0, _gap(inner)), expand=True)
    for column in columns:
        longest = max(cell_len(name) for name, _ in column)
        longest = max(longest, _label(inner)) if column is columns[0] else longest
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis", width=min(longest, most))
        table.add_column(ratio=1, no_wrap=True)
    for row in range(max(len(column) for column in columns)):
        facts = [column[row] if row < len(column) else ("", Text()) for column in columns]
        table.add_row(*(cell for name, value in facts for cell in (Text(name), value)))
    return table


def plain_name(key: str) -> str:
    """Return the name of a number of the user's own method, as it is shown."""
    return safe(key).replace("_", " ")


def _halves(facts: list[Fact]) -> tuple[list[Fact], list[Fact]]:
    middle = (len(facts) + 1) // 2
    return facts[:middle], facts[middle:]


def _training(latest: Stepped) -> Iterator[Fact]:
    yield "epoch", Text(f"{latest.epoch:.2f}")
    yield "learning rate", Text(f"{latest.lr:.3g}")
    if latest.grad_norm is not None:
        yield "gradient norm", Text(f"{latest.grad_norm:.3g}")
    yield "images/s", Text(rate(latest.rate))
    yield "time per step", Text(per_step(latest.step_seconds))
    cause = f" ({latest.bottleneck})" if latest.bottleneck else ""
    yield "waiting for data", Text(percent(latest.data_wait) + cause, "yellow" if latest.data_wait > BOTTLENECK else "")
    if latest.slow_views:
        yield "making views", Text(percent(latest.slow_views))
    yield "memory", Text(format_bytes(latest.memory))


def _health(screen: Screen, latest: Stepped) -> Iterator[Fact]:
    """Yield the metrics of z in a fixed order, then those of the method."""
    for key, (name, written) in NUMBERS.items():
        if key in latest.numbers:
            red = "bold red" if key == "spread" and screen.collapsed else ""
            yield name, Text(written(latest.numbers[key]), red)
    for key, value in latest.numbers.items():
        if key not in NUMBERS:
            yield plain_name(key), Text(f"{value:.3g}")
