"""Fold the events of a command into a frozen state."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ssl_cli.errors import DONE
from ssl_cli.events import (
    COLLAPSED,
    Advised,
    Calibrated,
    Choice,
    Encoded,
    Evaluated,
    Event,
    Finished,
    Measured,
    Planned,
    Saved,
    Sized,
    Sizing,
    Skipped,
    Started,
    Stepped,
    Stopped,
    Warned,
)
from ssl_cli.verdict import FEW_STEPS

HISTORY = 256
TRAINING = ("pretrain", "finetune", "distill")
"""Commands that train."""
ONLINE = "online_knn"
NEAR = 0.03  # a loss is near chance if it is at most this share below
FIRST_PART = 0.25  # share of a run in which, as in the first `FEW_STEPS` steps, that is normal


@dataclass(frozen=True)
class Screen:
    """State of a display or report; times are seconds since the epoch."""

    choices: tuple[Choice, ...] = ()
    expected: Mapping[str, float] = field(default_factory=dict)
    """Values expected by the plan, named as in `Planned.expected`."""
    sizes: tuple[Sizing, ...] = ()
    """What other times and machines would give, of a plan without training."""
    started: Started | None = None
    calibrated: Calibrated | None = None
    """The number of steps, corrected by the time of those taken."""
    latest: Stepped | None = None
    losses: tuple[float, ...] = ()
    """Losses over the whole run, thinned to a few hundred."""
    stride: int = 1
    """Log events for each entry of `losses`."""
    seen: int = 0
    warnings: tuple[Warned, ...] = ()
    skipped: int = 0
    saved: Saved | None = None
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    online: tuple[Evaluated, ...] = ()
    """kNN evaluations during training, oldest first."""
    measured: tuple[Measured, ...] = ()
    """Measurements of a benchmark so far."""
    advised: Advised | None = None
    encoded: Encoded | None = None
    """How many images have their vectors, of a command that encodes."""
    stopped: Stopped | None = None
    finished: Finished | None = None
    stopping: bool = False
    """Whether Ctrl-C was pressed, and training stops after this step."""

    @property
    def training(self) -> bool:
        """Return whether steps are being taken."""
        return self.phase in {"warm-up", "training"}

    @property
    def steps(self) -> int:
        """Return the steps of the whole run; 0 before it starts."""
        return self.started.steps if self.started else 0

    @property
    def step(self) -> int:
        """Return the steps taken."""
        if self.stopped:
            return self.stopped.step
        if self.latest:
            return self.latest.step
        return self.started.step if self.started else 0

    @property
    def seconds(self) -> float:
        """Return the seconds of training in all processes of a run that finished."""
        return (self.started.seconds if self.started else 0.0) + (self.finished.seconds if self.finished else 0.0)

    @property
    def resumed_from(self) -> int:
        """Return the step from which this process trains, 0 of a run that was not resumed."""
        return self.started.step if self.started else 0

    @property
    def exit_code(self) -> int:
        """Return the exit code of the process, as far as it is known."""
        return self.stopped.exit_code if self.stopped else DONE

    @property
    def plan_alone(self) -> bool:
        """Return whether there is a plan without training."""
        return bool(self.choices) and self.started is None and self.stopped is None

    @property
    def phase(self) -> str:
        """Return the phase of training in a word or two."""
        if self.stopped:
            return self.stopped.state
        if self.finished:
            return "done"
        if self.started is None:
            return "planning"
        if self.step >= self.steps:
            return "measuring quality"
        return "warm-up" if self.step < self.started.warmup else "training"

    @property
    def collapsed(self) -> bool:
        """Return whether the engine has warned of a collapse and the spread of z is still small."""
        spread = self.latest.numbers.get("spread") if self.latest else None
        warned = any(warning.about == "collapse" for warning in self.warnings)
        return warned and spread is not None and spread < COLLAPSED

    def choice(self, name: str) -> str:
        """Return the plan's value of this name, or an empty string."""
        return next((choice.value for choice in self.choices if choice.name == name), "")

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds left by the time of the steps so far, at first by the plan; None: neither is known."""
        if not self.started:
            return None
        if not self.latest or self.latest.step <= self.started.step:
            planned = self.expected.get("seconds")
            return None if planned is None else max(0.0, planned - (now - self.started.time))
        taken, left = self.latest.done - self.started.done, 1 - self.latest.done
        if taken <= 0:  # a record of an earlier version
            taken, left = self.latest.step - self.started.step, self.steps - self.latest.step
        spent = self.latest.time - self.started.time
        return max(0.0, spent / taken * left - (now - self.latest.time))

    def chance_note(self) -> tuple[str, bool]:
        """Compare the latest loss with its chance level; also return whether the result is alarming."""
        if not self.latest or not self.steps:
            return "", False
        return chance_note(self.latest.loss, self.latest.chance, self.latest.step, self.steps)


def chance_note(loss: float, chance: float | None, step: int, steps: int) -> tuple[str, bool]:
    """Compare a loss after `step` of `steps` steps with its chance level; also return whether the result is alarming.

    `chance` is the loss where all embeddings are equal, None where it is unknown. A loss below it gives "".
    """
    if not chance or not loss >= (1 - NEAR) * chance:
        return "", False
    where = "near chance" if loss <= (1 + NEAR) * chance else "above chance"
    if step < max(FIRST_PART * steps, FEW_STEPS):
        return f"{where}, as is normal at first", False
    return f"still {where}: try a lower --lr or a longer warm-up, or look at the views: sslcli inspect-augs", True


def fold(screen: Screen, event: Event) -> Screen:
    """Return the state after `event`."""
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
            return _replaced(screen, event)


def _replaced(screen: Screen, event: Event) -> Screen:
    """Return the state after an event that replaces a field or is appended to one."""
    match event:
        case Planned():
            return replace(screen, choices=event.choices, expected=event.expected)
        case Sized():
            return replace(screen, sizes=event.rows)
        case Calibrated():
            started = screen.started and replace(screen.started, steps=event.steps, warmup=event.warmup)
            return replace(screen, started=started, calibrated=event)
        case Measured():
            return replace(screen, measured=(*screen.measured, event))
        case Started() | Saved() | Stopped() | Finished() | Advised() | Encoded():
            changed: dict[str, Any] = {type(event).__name__.lower(): event}
            return replace(screen, **changed)
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
