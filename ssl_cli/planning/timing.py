"""The time of a run: how many steps fit into it, and their number corrected, by the time of those taken."""

import bisect
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from pydantic import Field

from ssl_cli.config.section import whole
from ssl_cli.config.tree import ScheduleSettings, Settings
from ssl_cli.config.units import format_epochs, format_seconds, format_time
from ssl_cli.events import Calibrated
from ssl_cli.optim.schedule import mean_area, view_size, warmup_steps
from ssl_cli.planning.size import FEWEST_STEPS, MOST_EPOCHS, fitted

Duration = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Calibrations = tuple[tuple[int, float], ...]
"""Corrections of the number of steps: after how many steps each was made, and the epochs of the run since."""
SHORTEST, LONGEST = 600.0, 3600.0
FEW, MANY = 2_000, 12_000
"""Images up to which a run takes the shortest time by default, and from which on the longest."""
WARMUP, LONGEST_WARMUP = 0.1, 0.2
"""Shares of the steps in which the rate rises."""
MORE_STEPS = 100
"""Steps whose time is stated where a time allows the fewest."""
CALIBRATE_AFTER, CALIBRATE_PART = 30, 0.1
"""Steps, and share of the steps, that are measured before their number is corrected: the greater of both. The share is
that of the warm-up. After 30 of 400 steps alone a run ended 15 % late: a processor is faster in its first seconds."""
CALIBRATE_AGAIN, MEASURED_FROM = 0.5, 0.25
"""Shares of the time at which the number of steps is corrected again, and from which on steps are measured for it. The
first correction alone, by views of half the size, ended a run 20 % late: they had cost 0.6 of what was expected, which
looks like a fast machine."""
FEWEST_MEASURED = 3
"""Steps whose time corrects the number of steps, at least: a run that is resumed just before takes so many first."""
AREAS = 1000
"""Steps of a schedule whose views' areas give their mean to a thousandth."""
PARTS = 200
"""Parts of a run whose time is looked up, to say how much of it is left."""
NOISE = 0.03
"""Share by which the number of steps may be wrong before it is corrected."""


def seconds_for(settings: Settings, images: int) -> tuple[float, str]:
    """Return the time of a run and why: as given, or by the number of images."""
    if settings.run.time is not None:
        return settings.run.time, f"in {format_seconds(settings.run.time)}"
    seconds = min(max(LONGEST * images / MANY, SHORTEST), LONGEST)
    rule = f"by default for {images:,} images (10 minutes up to {FEW:,}, an hour from {MANY:,} on, --time another)"
    return seconds, f"in {format_seconds(seconds)}, {rule}"


@dataclass(frozen=True)
class Timing:
    """How long a run takes, in seconds.

    Attributes:
        limit: its time.
        first: of a step of the first epoch, which may decode the images.
        later: of a step of the others.
        end: from the last step to the end: the evaluation.
        by_side: where views grow, what a step with views of each side in pixels takes more than the mean one, which
            `first` and `later` are; negative: less.
    """

    limit: Annotated[float, Field(allow_inf_nan=False)]
    first: Duration
    later: Duration
    end: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    by_side: dict[int, Annotated[float, Field(allow_inf_nan=False)]] = field(default_factory=dict)

    def seconds(self, steps: int, steps_per_epoch: int) -> float:
        """Return the seconds of so many steps, without the evaluation."""
        first = min(steps, steps_per_epoch)
        return first * self.first + (steps - first) * self.later

    def steps(self, steps_per_epoch: int) -> int:
        """Return the steps that fit into the time, within the limits of `size`.

        They are 20 at least, whatever the time, and those of 400 epochs at most.
        """
        left = self.limit - self.end
        found = left / self.first
        if found > steps_per_epoch:
            found = steps_per_epoch + (left - steps_per_epoch * self.first) / self.later
        return int(max(min(found, MOST_EPOCHS * steps_per_epoch), FEWEST_STEPS))


def relative_costs(growing: tuple[float, float] | None, size: int, smallest: float) -> tuple[dict[int, float], float]:
    """Return the cost of views of each side that grow so, as a share of that of views of `size`, and its mean.

    It is linear in the area, between 1 and that of the `smallest` views, which was measured. Where views do not grow,
    there are no sides and the mean is 1.
    """
    sides = {view_size(growing, size, AREAS, step) for step in range(AREAS)}
    least = min(sides)
    if least == size:
        return {}, 1.0

    def cost(area: float) -> float:
        return smallest + (1 - smallest) * (area - least**2) / (size**2 - least**2)

    return {side: cost(side**2) for side in sides}, cost(mean_area(growing, size, AREAS) * size**2)


def timed(settings: Settings, timing: Timing | None, steps_per_epoch: int) -> Settings:
    """Return the settings with the epochs that suit the time, and a tenth of them as warm-up, where these are open."""
    fit, steps = settings.run.fit, settings.schedule.steps(steps_per_epoch)
    if "schedule.epochs" in fit and timing is not None:
        steps = timing.steps(steps_per_epoch)
    warmup = round(WARMUP * steps) / steps_per_epoch
    return fitted(settings, {"schedule.epochs": steps / steps_per_epoch, "schedule.warmup": warmup})


def calibrated_after(steps: int) -> int:
    """Return after how many steps a run of so many is calibrated; 0: not at all."""
    if steps >= 2 * CALIBRATE_AFTER:
        return max(CALIBRATE_AFTER, int(CALIBRATE_PART * steps))
    return steps // 4 if steps >= FEWEST_STEPS else 0


def reason(settings: Settings, images: int, rate: float, ranks: int) -> str:
    """Say why the run takes its time, at this `rate` in images per second."""
    estimate = f"estimate: {rate:,.0f} images/s" if rate >= 10 else f"estimate: {rate:.2g} images/s"
    if "schedule.epochs" not in settings.run.fit:
        return estimate
    after = calibrated_after(settings.schedule.steps(images // settings.run.batch))
    once = f", corrected by the time of the first {after} steps, and again at half of the time" if after else ""
    once = once if ranks == 1 else ", not corrected while it trains, as several ranks share its steps"
    most = f"; {MOST_EPOCHS} epochs are the most" if settings.schedule.epochs >= MOST_EPOCHS else ""
    return f"{estimate}; {seconds_for(settings, images)[1]}{once}{most}"


def warn_of_time(settings: Settings, timing: Timing | None, steps_per_epoch: int) -> list[str]:
    """Return what a time that is short for these images and this batch means, and what more would give."""
    steps = settings.schedule.steps(steps_per_epoch)
    if "schedule.epochs" not in settings.run.fit:
        what = f"The run has {format_epochs(settings.schedule.epochs)} epochs, which are given"
        return [] if settings.run.time is None else [f"{what}: --time {format_time(settings.run.time)} is not used."]
    if timing is None:
        return []
    found = []
    takes = timing.seconds(steps, steps_per_epoch) + timing.end
    if steps <= FEWEST_STEPS and takes > timing.limit:
        more = timing.seconds(MORE_STEPS, steps_per_epoch) + timing.end
        found.append(
            f"The run takes {format_seconds(takes)}, more than its time: {FEWEST_STEPS} steps are the fewest of a "
            f"schedule. --time {format_time(more)} gives {MORE_STEPS}; a smaller --batch gives more in the same time."
        )
    if steps < steps_per_epoch:
        epoch = timing.seconds(steps_per_epoch, steps_per_epoch) + timing.end
        found.append(
            f"In its time the run sees {100 * steps / steps_per_epoch:.0f} % of the images, once each; "
            f"--time {format_time(epoch)} is one epoch."
        )
    return found


def whole_steps(settings: Settings, images: int, calibrations: Calibrations) -> int:
    """Return the steps of a run on so many images, which was calibrated so."""
    return RunSchedule(settings, max(images // settings.run.batch, 1), None, calibrations).steps


class RunSchedule:
    """The schedule of a run: that of the plan and, once steps are measured, one that suits their time.

    A run of 60 steps or more is calibrated after 30 or a tenth of its steps, a shorter one after a quarter of them;
    each again at half of its time. Steps up to a calibration keep their rates, so that a run that is resumed before
    it repeats them exactly; one that is resumed right before it is calibrated up to `FEWEST_MEASURED` steps later.

    Args:
        settings: of the run, sized.
        steps_per_epoch: of the run.
        timing: what the plan expects; None: the run is not calibrated.
        calibrations: those that earlier processes made.
    """

    clock: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(
        self, settings: Settings, steps_per_epoch: int, timing: Timing | None, calibrations: Calibrations
    ) -> None:  # fmt: skip
        self.planned = settings.schedule
        self.steps_per_epoch, self.timing, self._size = steps_per_epoch, timing, settings.data.size
        self.calibrations, self._warmup_is_open = calibrations, "schedule.warmup" in settings.run.fit
        changed = [(step, self._lasting(round(epochs * steps_per_epoch))) for step, epochs in calibrations]
        self._since = [(0, self.planned), *changed]
        self._start, self._began, self._window_began = 0, 0.0, 0.0

    @property
    def schedule(self) -> ScheduleSettings:
        """Return the schedule of the last step, as far as it is known."""
        return self._since[-1][1]

    @property
    def steps(self) -> int:
        """Return the steps of the whole run, as far as it is known."""
        return self.schedule.steps(self.steps_per_epoch)

    @property
    def warmup(self) -> int:
        """Return the steps in which the rate rises from 0."""
        return warmup_steps(self.schedule, self.steps_per_epoch)

    def numbers(self, start: int) -> Iterator[int]:
        """Yield the numbers, from 0, of the steps that are left after `start` of them."""
        self._start, self._began = start, self.clock()
        number = start
        while number < self.steps:
            yield number
            number += 1

    def at(self, number: int) -> ScheduleSettings:
        """Return the schedule of step `number`, from 0."""
        return next(schedule for step, schedule in reversed(self._since) if step <= number)

    def view_size(self, number: int) -> int:
        """Return the side in pixels of the views of step `number`, from 0."""
        return self._side(number, self.at(number).steps(self.steps_per_epoch))

    def progress(self, step: int) -> float:
        """Return the fraction of the run after `step` steps."""
        return step / self.at(step - 1).steps(self.steps_per_epoch)

    def share_of_time(self, step: int) -> float:
        """Return the fraction of the time of all steps that the first `step` take, by the plan.

        Where it has no times, that of a step is in proportion to the area of its views.
        """
        times, (whole, part) = self._times, divmod(PARTS * min(step / self.steps, 1.0), 1)
        before, after = times[int(whole)], times[min(int(whole) + 1, PARTS)]
        return (before + part * (after - before)) / times[-1]

    def after_step(self, step: int) -> Calibrated | None:
        """Measure the steps; return the correction of their number where one is due, which later steps follow."""
        if self.timing is None:
            return None
        window = self._window()
        if step == window.start:
            self._window_began = self.clock()
        if step != window.stop:
            return None
        now, before = self.clock(), self.schedule
        measured, expected = ((now - self._window_began) / len(window), sum(map(self._time, window)) / len(window))
        steps = self._fitting(step, now - self._began, max(measured / expected, 1e-9), self.timing)
        if abs(steps / self.steps - 1) > NOISE:
            self._since.append((step, self._lasting(steps)))
            self.__dict__.pop("_times", None)
        self.calibrations = (*self.calibrations, (step, self.schedule.epochs))
        return Calibrated(
            step=step, steps=self.steps, before=before.steps(self.steps_per_epoch), epochs=self.schedule.epochs,
            step_seconds=measured, warmup=self.warmup,
            message=_words(before.epochs, self.schedule.epochs, window, measured, expected),
        )  # fmt: skip

    def _window(self) -> range:
        """Return the steps that are measured for the next calibration; empty where there is none, or it is too late."""
        first = calibrated_after(self.planned.steps(self.steps_per_epoch))
        last = self.calibrations[-1][0] if self.calibrations else 0
        if not first or last > first + FEWEST_MEASURED:
            return range(0)
        begin, end = first // 3, first
        if last or self._start >= first:
            begin, end = self._step_at(MEASURED_FROM), self._step_at(CALIBRATE_AGAIN)
        begin = max(begin, last + 1, self._start + 1)
        return range(begin, max(end, begin + FEWEST_MEASURED)) if begin <= end else range(0)

    def _step_at(self, share: float) -> int:
        """Return after how many steps so large a share of the time is over."""
        return bisect.bisect_left(range(self.steps), share, key=self.share_of_time)

    def _fitting(self, step: int, seconds: float, slower: float, timing: Timing) -> int:
        """Return the steps of the run that fit into its time where each takes `slower` times as long as planned.

        They are a third more than the `step` taken at least, so that the rate falls before the end. This process has
        taken `seconds`; those of earlier ones count as planned, as much slower.
        """

        def left(steps: int) -> float:
            parts = (step + int((part + 0.5) * (steps - step) / PARTS) for part in range(PARTS))
            grown = sum(timing.by_side.get(self._side(number, steps), 0.0) for number in parts) if timing.by_side else 0
            whole, taken = (timing.seconds(each, self.steps_per_epoch) for each in (steps, step))
            return whole - taken + grown * (steps - step) / PARTS

        budget = (timing.limit - seconds) / slower - sum(map(self._time, range(self._start))) - timing.end
        most = range(step, MOST_EPOCHS * self.steps_per_epoch + 1)
        return max(step - 1 + bisect.bisect_right(most, budget, key=left), -(-4 * step // 3), FEWEST_STEPS)

    def _lasting(self, steps: int) -> ScheduleSettings:
        """Return the schedule with so many steps; its warm-up is at most a fifth of them where it is open."""
        epochs, warmup = whole(steps / self.steps_per_epoch), self.planned.warmup
        warmup = min(warmup, LONGEST_WARMUP * epochs) if self._warmup_is_open else warmup
        return self.planned.model_copy(update={"epochs": epochs, "warmup": warmup})

    @cached_property
    def _times(self) -> list[float]:
        """The time up to the end of each of the `PARTS` of the run, from 0, in any unit."""
        middles = (int((part + 0.5) * self.steps / PARTS) for part in range(PARTS))
        return list(itertools.accumulate(map(self._time, middles), initial=0.0))

    def _side(self, number: int, steps: int) -> int:
        """Return the side in pixels of the views of step `number` of `steps`, from 0."""
        return view_size(self.planned.resolution, self._size, steps, number)

    def _time(self, number: int) -> float:
        """Return the seconds that the plan expects of a step; without times the area of its views."""
        side = self.view_size(number)
        if self.timing is None:
            return side**2
        first = number < self.steps_per_epoch
        return (self.timing.first if first else self.timing.later) + self.timing.by_side.get(side, 0.0)


def _words(planned: float, epochs: float, steps: range, measured: float, expected: float) -> str:
    took = f"steps {steps.start + 1} to {steps.stop} took {measured:.3g} s each, {expected:.3g} s were expected"
    if epochs == planned:
        return f"{format_epochs(epochs)} epochs as planned: {took}."
    return f"{format_epochs(epochs)} epochs instead of {format_epochs(planned)}: {took}."
