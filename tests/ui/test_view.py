"""The live display, looked at without a run."""

import io
from functools import reduce

import pytest
from rich.cells import cell_len
from rich.console import Console

from ssl_cli.events import Event, Started
from ssl_cli.ui import view
from ssl_cli.ui.screen import Screen, fold
from tests.ui.events import HOSTILE, START, stepped, stopped, training


def drawn(events: list[Event], width: int = 80, now: float = START + 500.0) -> str:
    screen = reduce(fold, events, Screen())
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None)
    console.print(view.panel("pretrain", screen, now, START, width))
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_panel_fits(width: int) -> None:
    lines = drawn(training(), width).splitlines()
    assert all(cell_len(line) == width for line in lines)


def test_the_panel_says_what_a_user_asks_for() -> None:
    picture = drawn(training()[:-2], now=START + 906.0)
    for words in (
        "sslcli pretrain · simclr · runs/first", "448/448 steps", "measuring quality", "chance 6.24", "2.00 s/step",
        "learning rate 0.003", "812 images/s", "waiting for data 2.0 %", "1.2 GB", "contrastive top1 0.610", "▁", "█",
        "step_00000448.pt, 10 s ago", "1 unreadable", "The queue is capped.", "Pass --set method.queue=512.",
    ):  # fmt: skip
        assert words in picture


def test_states_of_a_run() -> None:
    assert "working, 8 min 20 s" in drawn([])
    assert "first steps" in drawn([Started(out="x", steps=10, time=START)])
    assert "left" in drawn(training()[:20])
    assert "done in 2 min 58 s" in drawn(training())
    assert "stopped" in drawn(stopped())
    assert "chance" not in drawn([Started(out="x", steps=10, time=START), stepped(5, chance=None)])


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    picture = drawn(training(out=HOSTILE), 120)
    assert "[red]" in picture
    assert picture.replace("\n", "").isprintable()


def test_the_plan() -> None:
    file = io.StringIO()
    event = training()[0]
    console = Console(file=file, width=80)
    console.print(view.plan(getattr(event, "choices")))  # noqa: B009 - a plan is what comes first
    assert "simclr" in file.getvalue()
    assert "recipe shapes" in file.getvalue()
