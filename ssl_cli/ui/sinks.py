"""Where events go: a live display on a terminal, plain lines elsewhere, and a result on stdout at the end."""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from ssl_cli.config.units import format_bytes, format_seconds
from ssl_cli.events import Event, Planned, Saved, Skipped, Started, Stepped, Stopped, Warned
from ssl_cli.ui import report, view
from ssl_cli.ui.screen import Screen, fold
from ssl_cli.ui.text import percent, safe

REFRESH = 4
LABEL = 11
SKIPS_SHOWN = 20


class Sink(Protocol):
    """A display of a command under way."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, screen: Screen, event: Event) -> None:
        """Show that `event` has led to `screen`."""


class LiveSink:
    """A panel that is redrawn in place, at most four times a second."""

    def __init__(self, command: str, stream: TextIO) -> None:
        self._command, self._screen, self._began = command, Screen(), time.time()
        self._console = Console(file=stream)
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=REFRESH,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, screen: Screen, event: Event) -> None:
        """Print the plan above the panel; all else is in the panel, which the refresh draws."""
        self._screen = screen
        self._live.transient = not screen.steps  # of a training, the last panel stays to be read
        if isinstance(event, Planned):
            self._console.print(view.plan(event.choices))

    def _picture(self) -> RenderableType:
        return view.panel(self._command, self._screen, time.time(), self._began, self._console.width)


class PlainSink:
    """One line for each event: for logs, pipes and terminals that cannot redraw. No control bytes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.flush()

    def show(self, screen: Screen, event: Event) -> None:
        """Write the lines of `event`, if it has any."""
        for line in self._lines(screen, event):
            self._stream.write(f"{line}\n")
        self._stream.flush()

    def _lines(self, screen: Screen, event: Event) -> Iterable[str]:
        match event:
            case Planned():
                for choice in event.choices:
                    reason = f" ({safe(choice.reason)})" if choice.reason else ""
                    yield f"plan: {safe(choice.name)} = {safe(choice.value)}{reason}"
            case Started():
                goes_on = f", going on from step {event.step:,}" if event.resumed else ""
                yield f"run: {safe(event.out)}, {event.steps:,} steps{goes_on}"
            case Stepped():
                yield _step_line(screen, event)
            case Warned():
                yield f"warning: {safe(event.message)} {safe(event.hint)}".rstrip()
            case Skipped() if screen.skipped <= SKIPS_SHOWN:
                yield f"skipped: {safe(event.path)}: {safe(event.reason)}"
                if screen.skipped == SKIPS_SHOWN:
                    yield "skipped: more such files are listed in bad_images.jsonl only"
            case Saved():
                yield f"saved: {safe(event.path)}"
            case Stopped():
                yield f"stopped: {safe(event.reason)}"
            case _:
                pass  # results go to stdout


def _step_line(screen: Screen, event: Stepped) -> str:
    chance = f" (chance {event.chance:.2f})" if event.chance is not None else ""
    left = screen.seconds_left(event.time)
    numbers = "".join(f"  {safe(name)} {value:.3f}" for name, value in event.numbers.items())
    return (
        f"step {event.step}/{screen.steps}  epoch {event.epoch:.2f}  loss {event.loss:.4f}{chance}  lr {event.lr:.3g}  "
        f"{event.rate:.0f} images/s  {event.step_seconds:.2f} s/step  data {percent(event.data_wait)}  "
        f"{format_bytes(event.memory)}{numbers}" + (f"  {format_seconds(left)} left" if left is not None else "")
    )


def can_redraw(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Whether a live display makes sense there."""
    return stream.isatty() and not env.get("CI") and env.get("TERM", "") not in {"dumb", "unknown"}


def present(command: str, events: Iterable[Event], *, as_json: bool) -> int:
    """Show the events of a command on stderr as they come, its result on stdout; the exit code.

    Args:
        command: the name of the command.
        events: what the engine yields.
        as_json: write the result as one JSON document instead of for people.
    """
    screen = Screen()
    live = can_redraw(sys.stderr, os.environ)
    sink: Sink = LiveSink(command, sys.stderr) if live else PlainSink(sys.stderr)
    with sink:
        watched = True
        for event in events:
            screen = fold(screen, event)
            try:
                if watched:
                    sink.show(screen, event)
            except BrokenPipeError:  # whoever read along has left; the work goes on
                watched = False
    if as_json:
        write_json(report.document(command, screen))
    else:
        _write_lines(report.lines(command, screen))
    return screen.exit_code


def write_json(document: Mapping[str, object]) -> None:
    """One JSON document on stdout, ASCII alone, so that no name of a file can spoil it."""
    sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
    sys.stdout.flush()


def _write_lines(lines: Iterable[report.Line]) -> None:
    console = Console(file=sys.stdout, highlight=False)
    for label, words in lines:
        line = Text(f"{label:<{LABEL}}", "dim")
        line.append(words, "bold" if label in {"kNN", "linear"} else "not dim")
        console.print(line, soft_wrap=True)  # a path or a command must stay whole to be copied
    sys.stdout.flush()
