"""The fold of events into a state: pure, and bounded whatever comes."""

from functools import reduce

import pytest

from ssl_cli.events import Event, Started, Warned
from ssl_cli.ui.screen import HISTORY, Screen, fold
from tests.ui.events import START, stepped, stopped, training


def folded(events: list[Event]) -> Screen:
    return reduce(fold, events, Screen())


def test_a_whole_run() -> None:
    screen = folded(training())
    assert (screen.step, screen.steps, screen.exit_code) == (448, 448, 0)
    assert screen.choice("method") == "simclr"
    assert screen.choice("nothing") == ""
    assert screen.results["knn"]["top1"] == 0.81
    assert screen.saved is not None
    assert screen.finished is not None
    assert (screen.skipped, len(screen.warnings), len(screen.losses)) == (1, 1, 112)


def test_the_state_before_stays_as_it_was() -> None:
    before = folded(training()[:4])
    losses = before.losses
    fold(before, stepped(400))
    assert before.losses == losses


def test_a_stopped_run_has_its_exit_code() -> None:
    assert folded(stopped(75)).exit_code == 75
    assert folded(stopped(130)).exit_code == 130


@pytest.mark.parametrize("count", [1, HISTORY, HISTORY + 1, 5 * HISTORY])
def test_losses_are_thinned_over_the_whole_run(count: int) -> None:
    screen = folded([stepped(step, loss=float(step)) for step in range(count)])
    assert len(screen.losses) <= HISTORY
    assert screen.losses == tuple(float(step) for step in range(0, count, screen.stride))


def test_time_left_is_at_the_pace_of_this_process() -> None:
    screen = folded([Started(out="x", steps=110, step=10, resumed=True, time=START), stepped(60)])
    assert screen.seconds_left(START + 120.0) == pytest.approx(50 * 120 / 50)
    assert screen.seconds_left(START + 130.0) == pytest.approx(110.0)
    assert screen.seconds_left(START + 9999.0) == 0


def test_there_is_no_time_left_before_a_pace() -> None:
    assert Screen().seconds_left(0.0) is None
    assert folded([Started(out="x", steps=100, time=START)]).seconds_left(START + 5) is None


def test_events_that_are_not_known_change_nothing() -> None:
    assert fold(Screen(), Event()) == Screen()
    assert fold(Screen(), Warned(message="x")).warnings[0].message == "x"
