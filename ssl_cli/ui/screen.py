"""What a command's events add up to: a frozen state, and the one function that moves it on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ssl_cli.errors import DONE
from ssl_cli.events import (
    Choice,
    Evaluated,
    Event,
    Finished,
    Planned,
    Saved,
    Skipped,
    Started,
    Stepped,
    Stopped,
    Warned,
)

HISTORY = 256


@dataclass(frozen=True)
class Screen:
    """All that a display or a report needs to know; times are seconds after the epoch."""

    choices: tuple[Choice, ...] = ()
    started: Started | None = None
    latest: Stepped | None = None
    losses: tuple[float, ...] = ()
    """Losses over the whole run, thinned to a few hundred."""
    stride: int = 1
    """How many log events stand behind one of `losses`."""
    seen: int = 0
    warnings: tuple[Warned, ...] = ()
    skipped: int = 0
    saved: Saved | None = None
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stopped: Stopped | None = None
    finished: Finished | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole run; 0 before it starts."""
        return self.started.steps if self.started else 0

    @property
    def step(self) -> int:
        """Steps taken."""
        if self.stopped:
            return self.stopped.step
        if self.latest:
            return self.latest.step
        return self.started.step if self.started else 0

    @property
    def exit_code(self) -> int:
        """The process's exit code, as far as it is known."""
        return self.stopped.exit_code if self.stopped else DONE

    def choice(self, name: str) -> str:
        """The plan's value of this name, or nothing."""
        return next((choice.value for choice in self.choices if choice.name == name), "")

    def seconds_left(self, now: float) -> float | None:
        """Time left at the pace so far; None before there is one."""
        if not (self.started and self.latest) or self.latest.step <= self.started.step:
            return None
        pace = (self.latest.time - self.started.time) / (self.latest.step - self.started.step)
        return max(0.0, pace * (self.steps - self.latest.step) - (now - self.latest.time))


def fold(screen: Screen, event: Event) -> Screen:
    """The screen after `event`."""
    match event:
        case Stepped():
            return _stepped(screen, event)
        case Evaluated():
            return replace(screen, results={**screen.results, event.name: event.result})
        case Warned():
            return replace(screen, warnings=(*screen.warnings, event))
        case Skipped():
            return replace(screen, skipped=screen.skipped + 1)
        case _:
            return _turned(screen, event)


def _turned(screen: Screen, event: Event) -> Screen:
    """The screen after one of the events that a run has but a few of."""
    match event:
        case Planned():
            return replace(screen, choices=event.choices)
        case Started():
            return replace(screen, started=event)
        case Saved():
            return replace(screen, saved=event)
        case Stopped():
            return replace(screen, stopped=event)
        case Finished():
            return replace(screen, finished=event)
        case _:
            return screen


def _stepped(screen: Screen, event: Stepped) -> Screen:
    """Keep every `stride`-th loss; when there are too many, drop every other one and double the stride."""
    losses, stride = screen.losses, screen.stride
    if screen.seen % stride == 0:
        losses = (*losses, event.loss)
    if len(losses) > HISTORY:
        losses, stride = losses[::2], stride * 2
    return replace(screen, latest=event, losses=losses, stride=stride, seen=screen.seen + 1)
