"""Write events to a live panel on a terminal or as plain lines elsewhere, and the result to stdout."""

import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ssl_cli.config.units import format_bytes, format_seconds
from ssl_cli.events import (
    Calibrated,
    Evaluated,
    Event,
    Measured,
    Pictured,
    Saved,
    Skipped,
    Started,
    Stepped,
    Stopped,
    Warned,
)
from ssl_cli.logs import capture_logging
from ssl_cli.signals import STOPPING_SOON, on_interrupt
from ssl_cli.ui import bench, report, sizes, view
from ssl_cli.ui.accuracy import Line
from ssl_cli.ui.live import ResizedLive, without_caret_echo
from ssl_cli.ui.screen import ONLINE, Screen, fold
from ssl_cli.ui.stream import DisplayStream, write_result
from ssl_cli.ui.text import per_step, percent, safe

REFRESH = 4
LABEL = 11
PROSE = {"verdict", "advice", "note", "warning", "problem", "protocol", "task", "meaning", "pretrain"}
"""Labels of lines that may wrap between words."""
SKIPS_SHOWN = 20
LONGEST_LINE = 176


class Sink(Protocol):
    """Displays a running command."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, screen: Screen, event: Event) -> None:
        """Show `event` and the state after it."""

    def interrupted(self) -> None:
        """Show that training stops after this step, if it trains; called from another thread."""


class LiveSink:
    """Redraws a panel in place, at most four times a second."""

    def __init__(self, command: str, stream: TextIO) -> None:
        self._command, self._screen, self._began = command, Screen(), time.time()
        self._stopping, self._terminal = False, without_caret_echo(stream)
        self._console = Console(file=stream, highlight=False)
        self._live = ResizedLive(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=REFRESH,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._terminal.__enter__()
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._terminal.__exit__(kind, error, trace)

    def show(self, screen: Screen, event: Event) -> None:
        """Print the plan and pictures above the panel; all other events are shown in the panel."""
        self._screen = screen
        self._live.transient = not screen.steps  # the last panel of a training stays on the screen
        if isinstance(event, Started) and screen.choices:
            self._console.print(view.plan(screen.choices, self._console.width), crop=False)
        elif isinstance(event, Pictured) and self._console.color_system and not self._console.no_color:
            from ssl_cli.ui.preview import render

            self._console.print(render(event, self._console.width))

    def interrupted(self) -> None:
        """Show that training stops after this step, in place of its phase."""
        if self._screen.training:
            self._stopping = True
            self._live.refresh()

    def _picture(self) -> RenderableType:
        screen = replace(self._screen, stopping=True) if self._stopping else self._screen
        return view.panel(self._command, screen, time.time(), self._began, self._console.width)


class PlainSink:
    """Writes one line for each event, without control bytes: for logs, pipes and terminals that cannot redraw."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._notes, self._training = stream, {""}, False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def show(self, screen: Screen, event: Event) -> None:
        """Write the lines of `event`, if any."""
        self._training = screen.training
        for line in self._lines(screen, event):
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def interrupted(self) -> None:
        """Write that training stops after this step."""
        if self._training and STOPPING_SOON not in self._notes:
            self._notes.add(STOPPING_SOON)
            self._stream.write(f"{STOPPING_SOON}\n")
            self._stream.flush()

    def _lines(self, screen: Screen, event: Event) -> Iterable[str]:
        match event:
            case Started():
                yield from view.plan_lines(screen.choices, Console(file=self._stream).width)
                resumed = f", resumed from step {event.step:,}" if event.resumed else ""
                yield f"run: {safe(event.out)}, {event.steps:,} steps{resumed}"
            case Stepped():
                yield _step_line(screen, event)
                note, _ = screen.chance_note()
                if note not in self._notes:  # once, not at every step
                    self._notes.add(note)
                    yield f"loss: {note}"
            case Evaluated(name=name) if name == ONLINE:
                yield _online_line(screen, event)
            case Skipped() if screen.skipped <= SKIPS_SHOWN:
                yield f"skipped: {safe(event.path)}: {safe(event.reason)}"
                if screen.skipped == SKIPS_SHOWN:
                    yield "skipped: more such files are listed in bad_images.jsonl only"
            case _:
                yield from _one_line(event)


def _one_line(event: Event) -> Iterator[str]:
    """Format an event whose line does not depend on earlier events; results go to stdout."""
    match event:
        case Warned():
            yield f"warning: {safe(event.message)} {safe(event.hint)}".rstrip()
        case Calibrated():
            yield f"time: {safe(event.message)}"
        case Saved():
            yield f"saved: {safe(event.path)}" + (f", {format_bytes(event.size)}" if event.size else "")
        case Stopped():
            yield f"{safe(event.state)}: {safe(event.reason)}"
        case Measured():
            yield bench.line(event)


class DeferredPlan:
    """Holds back a plan until training starts, as a plan alone is a result."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: list[tuple[Screen, Event]] = []

    def __enter__(self) -> Self:
        self._sink.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._pass_on()
        self._sink.__exit__(kind, error, trace)

    def show(self, screen: Screen, event: Event) -> None:
        """Show this event after those held back, or hold it back too."""
        self._waiting.append((screen, event))
        if not screen.plan_alone:
            self._pass_on()

    def interrupted(self) -> None:
        """Show it."""
        self._sink.interrupted()

    def _pass_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        for screen, event in waiting:
            self._sink.show(screen, event)


def _step_line(screen: Screen, event: Stepped) -> str:
    """Format a step on one line, with the method's own numbers while there is room."""
    chance = f" (chance {event.chance:.2f})" if event.chance is not None else ""
    left = screen.seconds_left(event.time)
    numbers = dict(event.numbers)
    shares = [f"{view.NUMBERS[key][0]} {100 * numbers[key]:.0f} %" for key in view.SHARES if key in numbers]
    spread = numbers.pop("spread", None)
    words = [
        f"step {event.step}/{screen.steps}",
        f"loss {event.loss:.4f}{chance}",
        f"lr {event.lr:.3g}",
        f"grad {event.grad_norm:.3g}" if event.grad_norm is not None else "",
        f"{event.rate:.0f} images/s",
        f"{per_step(event.step_seconds)}/step",
        f"data {100 * event.data_wait:.0f} %" + (f" ({event.bottleneck})" if event.bottleneck else ""),
        f"views {100 * event.slow_views:.0f} %" if event.slow_views else "",
        format_bytes(event.memory),
        *shares,
        f"spread {spread:.2f}" if spread is not None else "",
        f"{format_seconds(left)} left" if left is not None else "",
    ]
    line = "  ".join(word for word in words if word)
    for name, value in numbers.items():
        if name not in view.NUMBERS and len(longer := f"{line}  {view.plain_name(name)} {value:.3g}") <= LONGEST_LINE:
            line = longer
    return line


def _online_line(screen: Screen, event: Evaluated) -> str:
    result, first = event.result, screen.online[0]
    then = f"at step {first.step}"
    earliest = f" ({then} {percent(first.result['top1'])})" if first is not event else f" ({then})"
    where = f"k {result['k']}, {result['queries']:,} queries in a bank of {result['bank']:,}, training images"
    return f"online kNN: step {event.step}  top-1 {percent(result['top1'])}{earliest}  {where}"


def can_redraw(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Return whether a live display can be redrawn on this stream."""
    return stream.isatty() and not env.get("CI") and env.get("TERM", "") not in {"dumb", "unknown"}


def show(command: str, events: Iterable[Event], *, watched: bool = False) -> Screen:
    """Show the events of a command on stderr as they come; return the state after the last one.

    What third-party packages log in the meantime is discarded; a run writes it to its `train.log`.

    Args:
        command: the name of the command.
        events: what the engine yields.
        watched: they are of another process, which Ctrl-C does not stop.
    """
    screen = Screen()
    stream: TextIO = DisplayStream(sys.stderr)  # type: ignore[assignment]
    sink = DeferredPlan(LiveSink(command, stream) if can_redraw(stream, os.environ) else PlainSink(stream))
    interrupted = (lambda: None) if watched else sink.interrupted
    with capture_logging(lambda line: None), sink, on_interrupt(interrupted):
        for event in events:
            screen = fold(screen, event)
            sink.show(screen, event)
    return screen


def present(command: str, events: Iterable[Event], *, as_json: bool, watched: bool = False) -> int:
    """Show the events of a command as `show`, write its result to stdout and return the exit code.

    Args:
        command: the name of the command.
        events: what the engine yields.
        as_json: write the result as one JSON document instead of for people.
        watched: they are of another process.
    """
    screen = show(command, events, watched=watched)
    if as_json:
        write_json(report.document(command, screen))
        return screen.exit_code
    write_result(_result(command, screen))
    return screen.exit_code


def print_result(lines: Iterable[Line]) -> None:
    """Write labels and lines to stdout, as wide as the terminal is.

    Raises:
        ResourceError: as `write_result`.
    """
    console, text = _like_stdout()
    _print_lines(console, lines)
    write_result(_stripped(text))


def write_json(document: Mapping[str, object]) -> None:
    """Write one JSON document to stdout, in ASCII, so that any file name is valid in it; what is not finite as null.

    Raises:
        ResourceError: as `write_result`.
    """
    finite = json.loads(json.dumps(document, default=str), parse_constant=lambda _: None)
    write_result(json.dumps(finite, indent=2) + "\n")


def _like_stdout() -> tuple[Console, io.StringIO]:
    """Return a console with colours if stdout is a terminal, as wide as that is, and the text that it writes to."""
    stdout, text = Console(file=sys.stdout), io.StringIO()
    return Console(file=text, highlight=False, force_terminal=stdout.is_terminal, width=stdout.width), text


def _result(command: str, screen: Screen) -> str:
    """Return the result for people, as stdout shows it."""
    console, text = _like_stdout()
    if screen.plan_alone and console.is_terminal:
        console.print(view.plan(screen.choices, console.width), crop=False)
    elif screen.plan_alone:
        text.writelines(f"{line}\n" for line in view.plan_lines(screen.choices, console.width))
    if screen.sizes and console.is_terminal:
        console.print(sizes.table(screen.sizes))
    elif screen.sizes:
        text.writelines(f"{line}\n" for line in ["", *sizes.lines(screen.sizes, console.width)])
    if screen.measured:
        console.print(bench.tables(screen, console.width))
    _print_lines(console, report.lines(command, screen))
    return _stripped(text)


def _stripped(text: io.StringIO) -> str:
    """Return what was written, without the spaces at the ends of lines that tables leave."""
    return "\n".join(line.rstrip() for line in text.getvalue().split("\n"))


def _print_lines(console: Console, lines: Iterable[Line]) -> None:
    for label, words in lines:
        line = Text(f"{label:<{LABEL}}", "dim")
        line.append(words, "bold" if label in {"kNN", "linear", "quality", "accuracy"} else "not dim")
        if label in PROSE and len(line) > console.width:
            row = Table.grid()
            row.add_column(width=LABEL, no_wrap=True)
            row.add_row(line[:LABEL], line[LABEL:])
            console.print(row)
        else:
            console.print(line, soft_wrap=True)  # a path or a command must stay whole to be copied
