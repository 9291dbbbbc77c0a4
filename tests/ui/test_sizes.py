"""The table of what other times and machines would give, and a number of steps that was corrected."""

from collections.abc import Iterable

import pytest

from ssl_cli.events import Calibrated, Event, Planned, Sized, Sizing, Started
from ssl_cli.ui import sizes, view
from ssl_cli.ui.report import document
from ssl_cli.ui.screen import Screen, fold
from ssl_cli.ui.sinks import present
from tests.ui.events import CHOICES, EXPECTED, HOSTILE, START

ROWS = (
    Sizing(machine="here", seconds=600.0, network="resnet18, width 0.25", size=32, batch=64, epochs=120.5, chosen=True),
    Sizing(machine="here", seconds=28800.0, network=f"timm:{HOSTILE}", size=224, batch=4096, epochs=0.04),
    Sizing(machine="one A100", seconds=3600.0, network="resnet50, width 1", size=224, batch=256, epochs=400),
)
PLAN = (Planned(choices=CHOICES, expected=EXPECTED), Sized(rows=ROWS))
MESSAGE = "12 epochs instead of 15: the first 30 steps took 2.1 s each, 1.6 s were expected."
CALIBRATED = Calibrated(step=30, steps=360, before=448, epochs=12, step_seconds=2.1, warmup=20, message=MESSAGE)


def after(events: Iterable[Event]) -> Screen:
    screen = Screen()
    for event in events:
        screen = fold(screen, event)
    return screen


def test_the_table_marks_the_planned_run_and_holds_no_control_bytes() -> None:
    lines = sizes.lines(ROWS, 80)
    assert lines[0].split() == ["time", "on", "network", "pixels", "batch", "epochs"]
    (planned,) = (line for line in lines if line.endswith("planned"))
    assert planned.split()[:4] == ["10", "min", "00", "s"]
    assert "120.5" in planned
    assert max(map(len, lines)) <= 80
    assert not {"\x1b", "\x07", "\r"} & set("".join(lines))
    assert all(len(line) <= 40 for line in sizes.lines(ROWS, 40))


def test_a_plan_alone_shows_it_and_so_does_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert present("pretrain", iter(PLAN), as_json=False) == 0
    out = capsys.readouterr().out
    assert out.index("method") < out.index("one A100")
    found = document("pretrain", after(PLAN))["sizes"]
    assert found[0] == {
        "machine": "here", "seconds": 600.0, "network": "resnet18, width 0.25", "size": 32, "batch": 64,
        "epochs": 120.5, "planned": True,
    }  # fmt: skip
    assert [row["planned"] for row in found] == [True, False, False]


def test_a_corrected_number_of_steps_is_the_run_s_from_then_on(capsys: pytest.CaptureFixture[str]) -> None:
    events = (PLAN[0], Started(out="runs/first", steps=448, warmup=32, time=START), CALIBRATED)
    screen = after(events)
    assert (screen.steps, screen.started and screen.started.warmup) == (360, 20)
    view.panel("pretrain", screen, START, START)
    present("pretrain", iter(events), as_json=False)
    assert f"time: {MESSAGE}\n" in capsys.readouterr().err
