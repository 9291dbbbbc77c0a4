"""The time of a run: how many steps fit into it, and their number corrected once, by the time of the first ones."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ssl_cli.config.tree import ScheduleSettings, Settings
from ssl_cli.config.units import format_epochs, format_seconds
from ssl_cli.events import Calibrated
from ssl_cli.sizing.size import FEWEST_STEPS, MOST_EPOCHS

SHORTEST, LONGEST = 600.0, 3600.0
FEW, MANY = 2_000, 12_000
"""Images up to which a run takes the shortest time by default, and from which on the longest."""
WARMUP, LONGEST_WARMUP = 0.1, 0.2
"""Shares of the steps in which the rate rises."""
CALIBRATE_AFTER = 30
CALIBRATED_FROM = 24
"""Steps of the shortest run that is calibrated."""
NOISE = 0.03
"""Share by which the number of steps may be wrong before it is corrected."""


def seconds_for(settings: Settings, images: int) -> tuple[float, str]:
    """Return the time of a run and why: as given, or by the number of images."""
    if settings.run.time is not None:
        return settings.run.time, f"--time {format_seconds(settings.run.time)}"
    seconds = min(max(LONGEST * images / MANY, SHORTEST), LONGEST)
    rule = f"by default, as for {images:,} images: 10 minutes up to {FEW:,}, an hour from {MANY:,} on"
    return seconds, f"{format_seconds(seconds)} {rule}"


@dataclass(frozen=True)
class Timing:
    """How long a run takes, in seconds.

    Attributes:
        limit: its time.
        first: of a step of the first epoch, which may decode the images.
        later: of a step of the others.
        end: from the last step to the end: the evaluation.
    """

    limit: float
    first: float
    later: float
    end: float = 0.0

    def seconds(self, steps: int, steps_per_epoch: int) -> float:
        """Return the seconds of so many steps, without the evaluation."""
        first = min(steps, steps_per_epoch)
        return first * self.first + (steps - first) * self.later

    def steps(self, steps_per_epoch: int, slower: float = 1.0) -> int:
        """Return the steps that fit into the time where each takes `slower` times as long, within the limits of `size`.

        They are 20 at least, whatever the time, and those of 400 epochs at most.
        """
        left = self.limit / slower - self.end
        found = left / self.first
        if found > steps_per_epoch:
            found = steps_per_epoch + (left - steps_per_epoch * self.first) / self.later
        return int(max(min(found, MOST_EPOCHS * steps_per_epoch), FEWEST_STEPS))


def scheduled(schedule: ScheduleSettings, steps: int, steps_per_epoch: int, *, warmup: bool) -> ScheduleSettings:
    """Return the schedule with so many steps; with `warmup` the rate rises in a tenth of them."""
    changes: dict[str, float] = {"epochs": steps / steps_per_epoch}
    if warmup:
        changes["warmup"] = round(WARMUP * steps) / steps_per_epoch
    return ScheduleSettings.model_validate({**schedule.model_dump(), **changes})


class RunSchedule:
    """The schedule of a run: that of the plan and, once the first steps are measured, one that suits their time.

    Steps up to the calibration keep their rates, so that a run that is resumed before it repeats them exactly. A run of
    60 steps or more is calibrated after 30, a shorter one after a quarter of its steps, one below 24 steps not at all.

    Args:
        settings: of the run, sized.
        steps_per_epoch: of the run.
        timing: what the plan expects; None: the run is not calibrated.
        calibrated: after how many steps an earlier process calibrated this run, and its epochs since; None: none did.
        start: steps taken by earlier processes.
        clock: returns seconds.
    """

    def __init__(
        self, settings: Settings, steps_per_epoch: int, timing: Timing | None, calibrated: tuple[int, float] | None,
        start: int = 0, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.planned = self.schedule = settings.schedule
        self.steps_per_epoch, self.timing, self.clock = steps_per_epoch, timing, clock
        self.calibrated, self._warmup_is_open = calibrated, "schedule.warmup" in settings.run.fit
        steps = self.steps
        self._due = CALIBRATE_AFTER if steps >= 2 * CALIBRATE_AFTER else steps // 4 if steps >= CALIBRATED_FROM else 0
        self._from = max(self._due // 3, start + 1)
        self._since = 0.0
        if calibrated is not None:
            self._change(round(calibrated[1] * steps_per_epoch))

    @property
    def steps(self) -> int:
        """Return the steps of the whole run, as far as it is known."""
        return self.schedule.steps(self.steps_per_epoch)

    def at(self, number: int) -> ScheduleSettings:
        """Return the schedule of step `number`, from 0."""
        return self.planned if self.calibrated is not None and number < self.calibrated[0] else self.schedule

    def progress(self, step: int) -> float:
        """Return the fraction of the run after `step` steps."""
        return step / self.at(step - 1).steps(self.steps_per_epoch)

    def after_step(self, step: int) -> Calibrated | None:
        """Measure the first steps; return the correction where it is due, which later steps follow."""
        if self.timing is None or self.calibrated is not None or step > self._due:
            return None
        if step == self._from:
            self._since = self.clock()
        if step < self._due or step <= self._from:
            return None
        count, before = step - self._from, self.steps
        measured = (self.clock() - self._since) / count
        at, per_epoch = self.timing.seconds, self.steps_per_epoch
        expected = (at(step, per_epoch) - at(self._from, per_epoch)) / count
        steps = max(self.timing.steps(per_epoch, slower=max(measured / expected, 1e-9)), -(-4 * step // 3))
        if abs(steps / before - 1) > NOISE:
            self._change(steps)
        self.calibrated = step, self.schedule.epochs
        return Calibrated(
            step=step, steps=self.steps, before=before, epochs=self.schedule.epochs, step_seconds=measured,
            warmup=round(self.schedule.warmup * per_epoch),
            message=_words(self.planned.epochs, self.schedule.epochs, step, measured, expected),
        )  # fmt: skip

    def _change(self, steps: int) -> None:
        """Change the steps of the run; its warm-up stays as it was, but is at most a fifth of them where it is open."""
        changed = scheduled(self.planned, steps, self.steps_per_epoch, warmup=False)
        if self._warmup_is_open:
            changed = changed.model_copy(update={"warmup": min(changed.warmup, LONGEST_WARMUP * changed.epochs)})
        self.schedule = changed


def _words(planned: float, epochs: float, step: int, measured: float, expected: float) -> str:
    took = f"the first {step} steps took {measured:.3g} s each, {expected:.3g} s were expected"
    if epochs == planned:
        return f"{format_epochs(epochs)} epochs as planned: {took}."
    return f"{format_epochs(epochs)} epochs instead of {format_epochs(planned)}: {took}."

