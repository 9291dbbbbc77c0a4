"""The live display, looked at without a run."""

import dataclasses
import io
import re
from functools import reduce

import pytest
from rich.cells import cell_len
from rich.console import Console

from ssl_cli.events import Choice, Event, Started, Warned
from ssl_cli.signals import STOPPING_SOON
from ssl_cli.ui import view
from ssl_cli.ui.screen import Screen, fold
from tests.ui.events import CHOICES, HOSTILE, START, online, stepped, stopped, training

RED, YELLOW = "\x1b[1;31m", "\x1b[33m"


def drawn(events: list[Event], width: int = 80, now: float = START + 500.0) -> str:
    screen = reduce(fold, events, Screen())
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None)
    console.print(view.panel("pretrain", screen, now, START, width))
    return file.getvalue()


def coloured(events: list[Event]) -> str:
    screen = reduce(fold, events, Screen())
    console = Console(file=io.StringIO(), width=80, color_system="standard", force_terminal=True)
    with console.capture() as written:
        console.print(view.panel("pretrain", screen, START + 50.0, START, 80))
    return written.get()


def squeezed(picture: str) -> str:
    """The picture with every run of blanks as one."""
    return " ".join(picture.split())


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("events", [training(), training()[:9], training()[:1], stopped(), []], ids=len)
def test_the_panel_fits(width: int, events: list[Event]) -> None:
    lines = drawn(events, width).splitlines()
    assert all(cell_len(line) == width for line in lines)
    assert all(line[0] in "╭│╰" and line[-1] in "╮│╯" for line in lines)  # nothing runs over the frame


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_every_number_is_whole_at_every_width(width: int) -> None:
    small = dataclasses.replace(stepped(440), lr=0.000123, rate=123_456.0, step_seconds=0.012, memory=999_000_000)
    picture = drawn([*training()[:2], small, online(4, 0.17), online(64, 0.61)], width)
    for words in (
        "440/448 steps", "1.0614", "chance 6.24", "61.0 %", "at step 4 17.0 %", "0.000123", "123,456", "12 ms", "2.0 %",
        "999 MB", "1.23", "0.934", "0.300", "-2.910", "41.2", "6.88",
    ):  # fmt: skip
        assert re.search(rf"(?<![\d.]){re.escape(words)}(?![\d.])", picture), words


def test_the_panel_says_what_a_user_asks_for() -> None:
    picture = squeezed(drawn(training()[:-2], now=START + 906.0))
    for words in (
        "sslcli pretrain · simclr · runs/first", "448/448 steps", "measuring quality", "loss 1.0567 chance 6.24 █",
        "online kNN 61.0 % at step 4 17.0 % k 20, training images ▁▅█",
        "epoch 7.00", "learning rate 0.003", "gradient norm 1.23",
        "images/s 812", "time per step 2.00 s", "waiting for data 2.0 %", "memory 1.2 GB", "contrastive top-1 61.0 %",
        "spread 0.934", "alignment 0.300", "uniformity -2.910", "effective rank 41.2",
        "step_00000448.pt 5.9 MB 10 s ago", "1 unreadable image,", "The queue is capped. Pass --set method.queue=512.",
    ):  # fmt: skip
        assert words in picture


def test_what_steps_wait_for_is_named() -> None:
    event = stepped(4)
    waits = {"disk": 0.02, "decode": 0.32, "augmentation": 0.2}
    slow = dataclasses.replace(event, data_wait=0.34, waits=waits)
    picture = squeezed(drawn([*training()[:2], slow]))
    assert "waiting for data 34.0 % (decode)" in picture
    assert "making views 20.0 %" in picture
    assert "\x1b[33m34.0 % (decode)" in coloured([*training()[:2], slow])
    quick = squeezed(drawn([*training()[:2], dataclasses.replace(slow, data_wait=0.1, waits={"augmentation": 0.1})]))
    assert "waiting for data 10.0 %" in quick
    assert "(" not in quick.partition("waiting for data 10.0 %")[2][:3]
    assert "making views" not in quick


@pytest.mark.parametrize(("width", "columns"), [(40, 1), (60, 2), (80, 2), (117, 2), (120, 4), (200, 4)])
def test_wide_terminals_have_more_columns_of_facts(width: int, columns: int) -> None:
    row = next(line for line in drawn(training(), width).splitlines() if "epoch" in line)
    named = ("epoch", "time per step", "contrastive top-1", "uniformity")
    assert sum(name in row for name in named) == columns


def test_a_method_of_ones_own_is_shown_too() -> None:
    mine = {"bank_drift": 0.0123, "[red]\x1b[31m": 2.0}
    picture = squeezed(drawn([*training()[:2], stepped(8, numbers=mine)]))
    assert "bank drift 0.0123" in picture
    assert "[red]\\x1b[31m 2" in picture
    assert "spread" not in picture


def test_states_of_a_run() -> None:
    assert "planning, 8 min 20 s" in drawn([])
    assert "planning" in drawn(training()[:1])
    assert "first steps" in drawn([Started(out="x", steps=10, time=START)])
    assert "warm-up" in drawn(training()[:6])
    assert "2 min 30 s left" in drawn(training()[:2], now=START + 20.0)  # the plan's, before the first step
    assert "training" in drawn(training()[:20])
    assert "12 min 00 s left" in drawn(training()[:24], now=START + 176.0)
    assert "done in 2 min 58 s" in drawn(training())
    assert " ago" not in drawn(training())
    assert "stopped" in drawn(stopped())
    assert "chance" not in drawn([Started(out="x", steps=10, time=START), stepped(5, chance=None)])


def test_other_commands_are_working() -> None:
    file = io.StringIO()
    Console(file=file, width=60).print(view.panel("knn-eval", Screen(), START + 3, START, 60))
    assert "working, 3 s" in file.getvalue()


def test_a_first_measurement_that_is_not_of_the_start_says_when_it_was() -> None:
    assert "43.0 %  at step 64" in drawn([*training()[:2], stepped(64), online(64, 0.43)])
    assert "61.0 %  at step 64 43.0 %  k 20, training images  ▁█" in drawn(
        [*training()[:2], online(64, 0.43), online(128, 0.61)]
    )


def test_a_loss_near_chance_is_noted_and_coloured_only_late() -> None:
    early, late = ([*training()[:2], stepped(step, loss=6.2)] for step in (8, 400))
    assert "near chance, as is normal at first" in drawn(early)
    assert YELLOW not in coloured(early)
    assert "still near chance: try a lower --lr" in drawn(late)
    assert YELLOW in coloured(late)


def test_a_collapse_is_red_once_the_engine_has_warned() -> None:
    narrow = [*training()[:2], stepped(8, numbers={"spread": 0.04})]
    warned = [*narrow, Warned(message="All is one.", about="collapse")]
    assert RED not in coloured(narrow)
    assert RED in coloured(warned)
    assert RED not in coloured([*warned, stepped(12, numbers={"spread": 0.5})])


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    picture = drawn(training(out=HOSTILE), 120)
    assert "[red]" in picture
    assert picture.replace("\n", "").isprintable()


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_plan_fits(width: int) -> None:
    lines = view.plan_lines(CHOICES, width)
    assert all(cell_len(line) <= width and line == line.rstrip() for line in lines)
    told = " ".join(" ".join(lines).split())
    for choice in CHOICES[:2]:
        assert choice.value in told
    assert "--set model.bn_group=global" in told


def test_reasons_of_the_plan_wrap_under_themselves() -> None:
    assert view.plan_lines(CHOICES, 80)[:4] == [
        "method       simclr                recipe shapes",
        "backbone     resnet18, width 0.25  0.73 M parameters trained with the head",
        "BatchNorm    512 rows a group      one group; the paper has all rows in one",
        "                                   group: --set model.bn_group=global",
    ]
    assert len(view.plan_lines(CHOICES, 120)) == len(CHOICES)
    assert view.plan_lines(CHOICES[:2], 40) == [
        "method    simclr",
        "          recipe shapes",
        "backbone  resnet18, width 0.25",
        "          0.73 M parameters trained with",
        "          the head",
    ]


def test_a_path_in_the_plan_is_never_broken() -> None:
    for path in ("/data/pictures/of/the/summer/odd", f"/data/{'x' * 60}", f"/data/{'x' * 90}"):
        choices = [Choice(name="images", value="200, views of 32 pixels", reason=f"{path}; passed over: 1 .txt")]
        for width in (40, 80, 120):
            lines = view.plan_lines([*CHOICES[:2], *choices], width)
            (line,) = (line for line in lines if path in line)
            assert cell_len(line) <= width or line.strip() == f"{path};"
            file = io.StringIO()
            Console(file=file, width=width, force_terminal=True).print(view.plan(choices, width), crop=False)
            assert path in file.getvalue()


def test_a_long_run_folder_is_named_by_both_its_ends() -> None:
    title = drawn(training(out=f"runs/{'x' * 100}/summer")).splitlines()[0]
    assert "runs/xx" in title
    assert "xx/summer" in title


def test_a_hostile_plan_is_shown_and_not_obeyed() -> None:
    lines = view.plan_lines([Choice(name=HOSTILE, value=HOSTILE, reason=HOSTILE)], 200)
    assert all(line.isprintable() for line in lines)
    assert "[red]b[/red]" in lines[0]


def test_a_stop_that_was_asked_for_is_shown_while_training_only() -> None:
    def picture(screen: Screen) -> str:
        console = Console(file=io.StringIO(), width=80, color_system=None)
        with console.capture() as written:
            console.print(view.panel("pretrain", screen, START + 500.0, START, 80))
        return written.get()

    asked = reduce(fold, [*training()[:2], stepped(64)], Screen(stopping=True))
    assert STOPPING_SOON in picture(asked)
    assert STOPPING_SOON not in picture(dataclasses.replace(asked, stopping=False))
    assert STOPPING_SOON not in picture(reduce(fold, stopped(), asked))
