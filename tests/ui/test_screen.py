"""The fold of events into a state: pure, and bounded whatever comes."""

from dataclasses import replace
from functools import reduce

import pytest

from ssl_cli.events import Event, Started, Stopped, Warned
from ssl_cli.ui.screen import HISTORY, Screen, chance_note, fold
from tests.ui.events import EXPECTED, START, knn, online, stepped, stopped, training


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


def test_time_left_is_at_the_step_time_of_this_process() -> None:
    screen = folded([Started(out="x", steps=110, step=10, resumed=True, time=START), stepped(60)])
    assert screen.seconds_left(START + 120.0) == pytest.approx(50 * 120 / 50)
    assert screen.seconds_left(START + 130.0) == pytest.approx(110.0)
    assert screen.seconds_left(START + 9999.0) == 0


def test_time_left_is_by_the_share_of_the_time_that_is_done() -> None:
    started = Started(out="x", steps=110, step=10, resumed=True, done=0.05, time=START)
    screen = folded([started, replace(stepped(60), done=0.25)])
    assert screen.seconds_left(START + 120.0) == pytest.approx(0.75 * 120 / 0.2)


def test_there_is_no_time_left_before_the_first_step() -> None:
    assert Screen().seconds_left(0.0) is None
    assert folded([Started(out="x", steps=100, time=START)]).seconds_left(START + 5) is None


def test_before_the_first_step_the_time_left_is_the_plan_s() -> None:
    started = folded(training()[:2])
    assert started.seconds_left(START + 20.0) == pytest.approx(EXPECTED["seconds"] - 20)
    assert started.seconds_left(START + 999.0) == 0


def test_measurements_on_the_way_are_no_results() -> None:
    screen = folded([online(4, 0.2), online(10, 0.5), knn()])
    assert [(event.step, event.result["top1"]) for event in screen.online] == [(4, 0.2), (10, 0.5)]
    assert list(screen.results) == ["knn"]


def test_phases() -> None:
    run = training()
    assert Screen().phase == "planning"
    assert folded(run[:1]).phase == "planning"
    assert folded(run[:2]).phase == "warm-up"
    assert folded([*run[:2], stepped(31)]).phase == "warm-up"
    assert folded([*run[:2], stepped(32)]).phase == "training"
    assert folded(run[:-1]).phase == "measuring quality"
    assert folded(run).phase == "done"
    assert folded(stopped()).phase == "stopped"


def test_a_plan_is_alone_until_training_follows() -> None:
    run = training()
    assert not Screen().plan_alone
    assert folded([run[0], Warned(message="x")]).plan_alone
    assert not folded(run[:2]).plan_alone
    assert not folded([run[0], Stopped(exit_code=75, reason="x")]).plan_alone


@pytest.mark.parametrize(
    ("loss", "step", "says", "alarming"),
    [
        (6.24, 10, "near chance, as is normal at first", False),
        (6.10, 249, "near chance, as is normal at first", False),
        (6.10, 250, "still near chance: try a lower --lr", True),
        (7.00, 10, "above chance, as is normal at first", False),
        (7.00, 900, "still above chance: try", True),
        (6.00, 10, "", False),
        (6.00, 900, "", False),
        (float("nan"), 900, "", False),
    ],
)
def test_what_a_loss_near_chance_means(loss: float, step: int, says: str, alarming: bool) -> None:
    words, alarm = chance_note(loss, 6.24, step, 1000)
    assert words.startswith(says)
    assert bool(words) is bool(says)
    assert alarm is alarming


def test_a_short_run_is_not_alarming() -> None:
    assert chance_note(6.2, 6.24, 99, 99) == ("near chance, as is normal at first", False)
    assert chance_note(6.2, 6.24, 100, 110)[1]


def test_without_a_chance_level_nothing_is_said_of_it() -> None:
    assert chance_note(6.2, None, 900, 1000) == ("", False)
    assert Screen().chance_note() == ("", False)


def test_a_collapse_is_the_engines_word_and_a_narrow_spread() -> None:
    warning = Warned(message="All is one.", about="collapse")
    narrow, wide = stepped(4, numbers={"spread": 0.05}), stepped(8, numbers={"spread": 0.5})
    assert folded([narrow, warning]).collapsed
    assert not folded([narrow]).collapsed
    assert not folded([narrow, Warned(message="The queue is capped.")]).collapsed
    assert not folded([narrow, warning, wide]).collapsed
    assert not folded([warning, stepped(4, numbers={})]).collapsed
    assert not folded([warning]).collapsed


def test_events_that_are_not_known_change_nothing() -> None:
    assert fold(Screen(), Event()) == Screen()
    assert fold(Screen(), Warned(message="x")).warnings[0].message == "x"
