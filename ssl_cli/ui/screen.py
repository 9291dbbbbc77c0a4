"""What a command's events add up to: a frozen state, and the one function that moves it on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ssl_cli.errors import DONE
from ssl_cli.events import (
    COLLAPSED,
    Advised,
    Choice,
    Evaluated,
    Event,
    Finished,
    Measured,
    Planned,
    Saved,
    Skipped,
    Started,
    Stepped,
    Stopped,
    Warned,
)

HISTORY = 256
ONLINE = "online_knn"
NEAR = 0.03  # a loss this share below chance, or less, tells hardly anything apart
EARLY, FEW_STEPS = 0.25, 100  # the share of a run, and the steps, in which that is nothing to worry about


@dataclass(frozen=True)
class Screen:
    """All that a display or a report needs to know; times are seconds after the epoch."""

    choices: tuple[Choice, ...] = ()
    expected: Mapping[str, float] = field(default_factory=dict)
    """What the plan expects, by the names of `Planned.expected`."""
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
    online: tuple[Evaluated, ...] = ()
    """Nearest neighbours measured while training goes on, oldest first."""
    measured: tuple[Measured, ...] = ()
    """What a benchmark has found so far."""
    advised: Advised | None = None
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

    @property
    def plan_alone(self) -> bool:
        """Whether there is a plan, and no training that follows it."""
        return bool(self.choices) and self.started is None and self.stopped is None

    @property
    def phase(self) -> str:
        """What a training is at, in a word or two."""
        if self.stopped:
            return "stopped"
        if self.finished:
            return "done"
        if self.started is None:
            return "planning"
        if self.step >= self.steps:
            return "measuring quality"
        return "warm-up" if self.step < self.started.warmup else "training"

    @property
    def collapsed(self) -> bool:
        """Whether the engine has warned of a collapse, and the rows of z lie together still."""
        spread = self.latest.numbers.get("spread") if self.latest else None
        warned = any(warning.about == "collapse" for warning in self.warnings)
        return warned and spread is not None and spread < COLLAPSED

    def choice(self, name: str) -> str:
        """The plan's value of this name, or nothing."""
        return next((choice.value for choice in self.choices if choice.name == name), "")

    def seconds_left(self, now: float) -> float | None:
        """Time left at the pace so far, or by the plan before there is one; None where neither is known."""
        if not self.started:
            return None
        if not self.latest or self.latest.step <= self.started.step:
            planned = self.expected.get("seconds")
            return None if planned is None else max(0.0, planned - (now - self.started.time))
        pace = (self.latest.time - self.started.time) / (self.latest.step - self.started.step)
        return max(0.0, pace * (self.steps - self.latest.step) - (now - self.latest.time))

    def chance_note(self) -> tuple[str, bool]:
        """What the loss is worth beside its chance level, and whether that is alarming."""
        if not self.latest or not self.steps:
            return "", False
        return chance_note(self.latest.loss, self.latest.chance, self.latest.step, self.steps)


def chance_note(loss: float, chance: float | None, step: int, steps: int) -> tuple[str, bool]:
    """What to say of a loss after `step` of `steps` steps, and whether it is alarming; nothing of a loss that fell.

    `chance` is the loss of an encoder that tells nothing apart, where there is such a number.
    """
    if not chance or not loss >= (1 - NEAR) * chance:
        return "", False
    where = "near chance" if loss <= (1 + NEAR) * chance else "above chance"
    if step < max(EARLY * steps, FEW_STEPS):
        return f"{where}, as is normal at first", False
    return f"still {where}: try a lower --lr or a longer warm-up, or look at the views: sslcli inspect-augs", True


def fold(screen: Screen, event: Event) -> Screen:
    """The screen after `event`."""
    match event:
        case Stepped():
            return _stepped(screen, event)
        case Evaluated(name=name) if name == ONLINE:
            return replace(screen, online=(*screen.online, event))
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
            return replace(screen, choices=event.choices, expected=event.expected)
        case Started():
            return replace(screen, started=event)
        case Saved():
            return replace(screen, saved=event)
        case Stopped():
            return replace(screen, stopped=event)
        case Finished():
            return replace(screen, finished=event)
        case Measured():
            return replace(screen, measured=(*screen.measured, event))
        case Advised():
            return replace(screen, advised=event)
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
