"""The time of a run: the steps that fit into it, and their number corrected by the time of the first ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_epochs, format_time
from ssl_cli.optim.schedule import rate, view_size
from ssl_cli.planning.size import FEWEST_STEPS, MOST_EPOCHS, fitted
from ssl_cli.planning.timing import (
    RunSchedule,
    Timing,
    calibrated_after,
    reason,
    relative_costs,
    seconds_for,
    timed,
    warn_of_time,
)
from tests.engine.test_pretrain import settings as settings_of

FIT = ["schedule.epochs", "schedule.warmup"]
PER_EPOCH = 10
TIMING = Timing(limit=110.0, first=2.0, later=1.0, end=10.0)
"""Ten steps of decoding take 20 s, the evaluation 10 s: 80 steps are left."""


def settings(**run: Any) -> Settings:
    return settings_of(Path("nowhere"), run={"fit": FIT, **run})


@pytest.mark.parametrize(
    ("images", "seconds"), [(2, 600), (2000, 600), (2400, 720), (6000, 1800), (12_000, 3600), (10**7, 3600)]
)
def test_the_default_time_rises_with_the_images(images: int, seconds: float) -> None:
    found, why = seconds_for(settings(), images)
    assert found == seconds
    assert "default" in why
    assert seconds_for(settings(time=7), images) == (7, "in 7 s")


def test_the_steps_that_fit() -> None:
    assert TIMING.steps(PER_EPOCH) == 90
    assert TIMING.seconds(90, PER_EPOCH) + TIMING.end == TIMING.limit
    assert Timing(1.0, 2.0, 1.0).steps(PER_EPOCH) == FEWEST_STEPS
    assert Timing(-1.0, 2.0, 1.0, 5.0).steps(PER_EPOCH) == FEWEST_STEPS
    assert Timing(1e9, 2.0, 1.0).steps(PER_EPOCH) == MOST_EPOCHS * PER_EPOCH


@given(st.floats(1, 1e5), st.floats(1e-4, 100), st.floats(0.1, 1), st.floats(0, 100), st.integers(1, 1000))
def test_they_end_within_the_time(limit: float, first: float, share: float, end: float, per_epoch: int) -> None:
    timing = Timing(limit, first, first * share, end)
    steps = timing.steps(per_epoch)
    if steps > FEWEST_STEPS:
        assert timing.seconds(steps, per_epoch) + end <= limit * (1 + 1e-6)
    if FEWEST_STEPS < steps < MOST_EPOCHS * per_epoch:
        assert timing.seconds(steps + 1, per_epoch) + end >= limit * (1 - 1e-6)


def test_epochs_and_warm_up_are_filled_in_where_they_are_open() -> None:
    schedule = timed(settings(), TIMING, PER_EPOCH).schedule
    assert (schedule.epochs, schedule.steps(PER_EPOCH)) == (9, 90)
    assert schedule.warmup == pytest.approx(0.9)
    given_epochs = timed(settings(fit=["schedule.warmup"]), TIMING, PER_EPOCH).schedule
    assert (given_epochs.epochs, given_epochs.warmup) == (2, 0.2)
    assert timed(settings(fit=[]), TIMING, PER_EPOCH) == settings(fit=[])
    assert timed(settings(), None, PER_EPOCH).schedule.epochs == 2


def test_a_time_that_is_short_is_warned_of() -> None:
    short = Timing(10.0, 2.0, 1.0)
    chosen = timed(settings(), short, 100)
    first, second = warn_of_time(chosen, short, 100)
    assert first.startswith("The run takes 40 s, more than its time: 20 steps are the fewest")
    assert "--time 4m gives 100" in first
    assert second == "In its time the run sees 20 % of the images, once each; --time 4m is one epoch."
    assert warn_of_time(timed(settings(), TIMING, PER_EPOCH), TIMING, PER_EPOCH) == []
    assert warn_of_time(settings(fit=[]), short, 100) == []
    (unused,) = warn_of_time(settings(fit=[], time=600), None, 100)
    assert unused == "The run has 2 epochs, which are given: --time 10m is not used."


def test_the_plan_says_why_the_run_takes_its_time() -> None:
    chosen = fitted(settings(time=60), {"schedule.epochs": 20})
    assert reason(chosen, 96, 2.345, 1) == (
        "estimate: 2.3 images/s; in 1 min 00 s, corrected by the time of the first 30 steps, "
        "and again at half of the time"
    )
    assert "several ranks" in reason(chosen, 96, 20, 2)
    assert "400 epochs are the most" in reason(fitted(chosen, {"schedule.epochs": 400}), 96, 20, 1)
    assert reason(settings(fit=[]), 96, 1234, 1) == "estimate: 1,234 images/s"


class Clock:
    """Seconds that pass by the step."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drive(
    schedule: RunSchedule, clock: Clock, seconds: float, start: int = 0, stop: int = 10**9, later: float | None = None
) -> list[float]:
    """Take steps of so many seconds each, of `later` seconds from the 31st on; return the rate of each."""
    rates = []
    for number in schedule.numbers(start):
        if number == stop:
            break
        each = later if later is not None and number >= 30 else seconds
        clock.now += each if number >= PER_EPOCH else each * TIMING.first
        rates.append(rate(schedule.at(number), 1.0, number, PER_EPOCH))
        schedule.after_step(number + 1)
    return rates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(RunSchedule, "clock", staticmethod(found))
    return found


@pytest.fixture
def sized() -> Settings:
    """A run of 90 steps."""
    return timed(settings(), TIMING, PER_EPOCH)


def growing_settings(sized: Settings) -> Settings:
    """Return the settings with views that grow from half of their size in the first 0.8 of the schedule."""
    schedule = sized.schedule.model_copy(update={"resolution": (0.5, 0.8)})
    return sized.model_copy(update={"schedule": schedule})


@pytest.mark.parametrize(("slower", "steps"), [(1.0, 90), (1.01, 90), (1.5, 53), (0.5, 200), (4.0, 40), (100.0, 40)])
def test_a_run_is_corrected_after_thirty_steps(clock: Clock, sized: Settings, slower: float, steps: int) -> None:
    schedule = RunSchedule(sized, PER_EPOCH, TIMING, ())
    rates = drive(schedule, clock, slower)
    assert len(rates) == schedule.steps == steps
    planned = [rate(sized.schedule, 1.0, number, PER_EPOCH) for number in range(90)]
    assert rates[:30] == planned[:30]
    assert (rates == planned) == (steps == 90)
    assert rates[-1] < 0.04  # the schedule is complete
    assert [epochs for _, epochs in schedule.calibrations] == [steps / PER_EPOCH] * len(schedule.calibrations)
    assert [step for step, _ in schedule.calibrations][:1] == [30]
    if steps > 40:
        assert abs(clock.now + slower * TIMING.end - TIMING.limit) < 0.03 * TIMING.limit


@pytest.mark.parametrize("start", [0, 5, 20, 28, 30, 45, 60])
def test_a_resumed_run_repeats_the_same_rates(clock: Clock, sized: Settings, start: int) -> None:
    first = RunSchedule(sized, PER_EPOCH, TIMING, ())
    whole = drive(first, clock, 0.8, later=1.3)
    assert len({epochs for _, epochs in first.calibrations}) == 2
    again = RunSchedule(sized, PER_EPOCH, TIMING, first.calibrations)
    assert again.steps == first.steps
    assert drive(again, clock, 7.0, start) == whole[start:]
    assert again.warmup == first.warmup


def test_a_run_resumed_before_it_is_corrected_is_corrected_then(clock: Clock, sized: Settings) -> None:
    drive(RunSchedule(sized, PER_EPOCH, TIMING, ()), clock, 1.5, stop=20)
    again = RunSchedule(sized, PER_EPOCH, TIMING, ())
    drive(again, clock, 1.5, 20)
    assert again.calibrations == ((30, 5.3),)
    late = RunSchedule(sized, PER_EPOCH, TIMING, ())
    drive(late, clock, 1.5, 29)
    assert late.calibrations == ((33, 5.3),)  # three steps later, as so many are measured at least


def test_a_run_resumed_right_before_half_of_its_time_is_corrected_there(clock: Clock, sized: Settings) -> None:
    first = RunSchedule(sized, PER_EPOCH, TIMING, ())
    drive(first, clock, 0.8, later=1.3)
    (_, (half, _)) = first.calibrations
    for start, step in ((half - 4, half), (half - 2, half + 2), (half - 1, half + 3), (half, None)):
        again = RunSchedule(sized, PER_EPOCH, TIMING, first.calibrations[:1])
        drive(again, clock, 1.3, start)
        assert [each for each, _ in again.calibrations[1:]] == [step] * (step is not None)


@pytest.mark.parametrize("start", [30, 38])
def test_a_run_resumed_between_its_corrections_is_corrected_again(clock: Clock, sized: Settings, start: int) -> None:
    first = RunSchedule(sized, PER_EPOCH, TIMING, ())
    drive(first, clock, 0.8, stop=start)
    again = RunSchedule(sized, PER_EPOCH, TIMING, first.calibrations)
    drive(again, clock, 1.3, start)
    assert again.calibrations[:1] == first.calibrations
    assert len(again.calibrations) == 2
    assert again.steps < first.steps
    assert abs(clock.now + 1.3 * TIMING.end - TIMING.limit) < 0.15 * TIMING.limit  # it knows but its own speed


@pytest.mark.parametrize("later", [0.7, 1.0, 1.3, 1.6])
def test_a_machine_that_changes_its_speed_is_corrected_at_half_of_the_time(
    clock: Clock, sized: Settings, later: float
) -> None:
    schedule = RunSchedule(sized, PER_EPOCH, TIMING, ())
    drive(schedule, clock, 1.0, later=later)
    assert abs(clock.now + later * TIMING.end - TIMING.limit) < 0.1 * TIMING.limit


@pytest.mark.parametrize("small", [0.15, 0.3, 0.45])
def test_small_views_that_cost_what_was_not_expected_are_corrected(clock: Clock, sized: Settings, small: float) -> None:
    growing, size = (0.5, 0.8), sized.data.size
    expected, mean = relative_costs(growing, size, 0.3)
    cost, _ = relative_costs(growing, size, small)
    timing = replace(TIMING, by_side={side: share - mean for side, share in expected.items()})  # of a step of 1 s
    run = RunSchedule(growing_settings(sized), PER_EPOCH, timing, ())
    for number in run.numbers(0):
        clock.now += (2.0 if number < PER_EPOCH else 1.0) + cost[run.view_size(number)] - mean
        run.after_step(number + 1)
    assert len(run.calibrations) == 2
    assert abs(clock.now + timing.end - timing.limit) < 0.06 * timing.limit


@pytest.mark.parametrize("slower", [1.0, 1.5, 0.6])
def test_a_run_whose_views_grow_is_corrected_by_what_the_small_ones_should_take(
    clock: Clock, sized: Settings, slower: float
) -> None:
    cost, mean = relative_costs((0.5, 0.8), sized.data.size, 0.3)
    timing = replace(TIMING, by_side={side: share - mean for side, share in cost.items()})  # of a step of 1 s
    run = RunSchedule(growing_settings(sized), PER_EPOCH, timing, ())
    for number in run.numbers(0):
        clock.now += slower * ((2.0 if number < PER_EPOCH else 1.0) + cost[run.view_size(number)] - mean)
        run.after_step(number + 1)
    assert run.steps == 90 if slower == 1 else abs(run.steps - 90) > 20
    assert abs(clock.now + slower * timing.end - timing.limit) < 0.05 * timing.limit


def test_how_much_of_a_run_is_done_is_by_its_time(clock: Clock, sized: Settings) -> None:
    schedule = RunSchedule(sized, PER_EPOCH, TIMING, ())
    total = TIMING.seconds(90, PER_EPOCH)
    for step in (0, 5, 10, 40, 90):
        assert schedule.share_of_time(step) == pytest.approx(TIMING.seconds(step, PER_EPOCH) / total, abs=0.01)
    drive(schedule, clock, 1.5)
    assert (schedule.steps, schedule.share_of_time(53)) == (53, 1.0)


def test_small_views_are_a_small_part_of_a_run(sized: Settings) -> None:
    schedule = RunSchedule(growing_settings(sized), PER_EPOCH, None, ())
    areas = [schedule.view_size(number) ** 2 for number in range(90)]
    for step in (0, 20, 45, 90):
        assert schedule.share_of_time(step) == pytest.approx(sum(areas[:step]) / sum(areas), abs=0.01)
    cost, mean = relative_costs((0.5, 0.8), sized.data.size, 0.5)
    schedule.timing = Timing(90.0, mean, mean, by_side={side: share - mean for side, share in cost.items()})
    del schedule._times
    assert schedule.share_of_time(45) == pytest.approx(
        sum(cost[schedule.view_size(number)] for number in range(45)) / (90 * mean), abs=0.02
    )


def test_the_cost_of_growing_views_is_linear_in_their_area() -> None:
    assert relative_costs(None, 32, 0.3) == ({}, 1.0)
    assert relative_costs((1.0, 0.5), 32, 0.3) == ({}, 1.0)
    cost, mean = relative_costs((0.5, 0.8), 32, 0.4)
    assert sorted(cost) == [16, 20, 24, 28, 32]
    assert (cost[16], cost[32]) == (0.4, 1.0)
    assert cost[24] == pytest.approx(0.4 + 0.6 * (24**2 - 16**2) / (32**2 - 16**2))
    assert mean == pytest.approx(sum(cost[view_size((0.5, 0.8), 32, 1000, step)] for step in range(1000)) / 1000)


def test_progress_ends_at_one(clock: Clock, sized: Settings) -> None:
    schedule = RunSchedule(sized, PER_EPOCH, TIMING, ())
    drive(schedule, clock, 1.5)
    assert schedule.progress(30) == 30 / 90
    assert schedule.progress(31) == 31 / 53
    assert schedule.progress(53) == 1


def test_without_a_time_nothing_is_corrected(clock: Clock, sized: Settings) -> None:
    schedule = RunSchedule(sized, PER_EPOCH, None, ())
    assert len(drive(schedule, clock, 9.0)) == 90
    assert schedule.calibrations == ()


@pytest.mark.parametrize(("steps", "after"), [(19, 0), (20, 5), (59, 14), (60, 30), (300, 30), (1000, 100)])
def test_short_runs_are_corrected_after_a_quarter(steps: int, after: int) -> None:
    assert calibrated_after(steps) == after


def test_the_correction_is_stated(clock: Clock, sized: Settings) -> None:
    schedule = RunSchedule(sized, PER_EPOCH, TIMING, ())
    events = []
    for number in schedule.numbers(0):
        clock.now += 1.5 if number >= PER_EPOCH else 3.0
        events.append(schedule.after_step(number + 1))
    (event,) = filter(None, events)  # at half of the time, after 32 steps, there is nothing new to measure
    assert (event.step, event.steps, event.before) == (30, 53, 90)
    assert event.message == "5.3 epochs instead of 9: steps 11 to 30 took 1.5 s each, 1 s were expected."


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1s"), (45, "45s"), (61, "2m"), (3600, "60m"), (3601, "2h"), (10**6, "278h")]
)
def test_times_as_settings_are_written(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_epochs_in_words() -> None:
    assert [format_epochs(epochs) for epochs in (7, 1200.0, 2.54, 0.04)] == ["7", "1,200", "2.5", "0.04"]
