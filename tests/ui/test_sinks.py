"""Displays: a panel only where it can be redrawn, plain lines elsewhere, results on stdout alone."""

import dataclasses
import errno
import io
import json
import sys
from collections.abc import Iterator
from functools import reduce
from types import ModuleType

import pytest

from ssl_cli.errors import ResourceError
from ssl_cli.events import Choice, Event, Pictured, Planned, Saved, Skipped, Started, Tile, Warned
from ssl_cli.signals import STOPPING_SOON
from ssl_cli.ui.screen import Screen, fold
from ssl_cli.ui.sinks import (
    LONGEST_LINE,
    SKIPS_SHOWN,
    LiveSink,
    PlainSink,
    can_redraw,
    present,
    print_result,
    write_json,
)
from tests.ui.events import HOSTILE, START, knn, stepped, stopped, training


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def plain(events: list[Event]) -> str:
    stream = io.StringIO()
    screen = Screen()
    with PlainSink(stream) as sink:
        for event in events:
            screen = fold(screen, event)
            sink.show(screen, event)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "env", "live"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (Terminal(), {"TERM": "xterm", "CI": "true"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_where_a_panel_is_drawn(stream: io.StringIO, env: dict[str, str], live: bool) -> None:
    assert can_redraw(stream, env) is live


def test_plain_lines_have_no_control_bytes() -> None:
    text = plain(training(out=HOSTILE))
    assert all(line.isprintable() for line in text.split("\n"))
    assert text.isascii() or "\udcff" not in text


def test_plain_lines_tell_the_run() -> None:
    text = plain(training())
    for words in (
        "method       simclr                recipe shapes\n", "run: runs/first, 448 steps",
        "step 4/448  loss 5.8039 (chance 6.24)  lr 0.003  grad 1.23  812 images/s  2.00 s/step  data 2 %  1.2 GB  "
        "contrastive top-1 61 %  spread 0.93  14 min 48 s left\n",
        "online kNN: step 4  top-1 17.0 % (at step 4)  k 20, 512 queries in a bank of 2,048, training images\n",
        "online kNN: step 64  top-1 43.0 % (at step 4 17.0 %)", "skipped: runs/first/bad.jpg",
        "warning: The queue is capped. Pass", "saved: runs/first/checkpoints/step_00000448.pt, 5.9 MB",
    ):  # fmt: skip
        assert words in text
    assert "stopped: SIGTERM was received" in plain(stopped())


def test_step_lines_stay_short() -> None:
    mine = {"top1": 1.0, "spread": 0.934, "alignment": 0.3, "bank_drift": 0.0123, "x" * 100: 1.0}
    step = dataclasses.replace(
        stepped(12345, numbers=mine), lr=0.000123, rate=12345.0, step_seconds=0.123, data_wait=0.999
    )
    text = plain([Started(out="x", steps=99999, time=START), step])
    line = text.splitlines()[1]
    assert len(line) <= LONGEST_LINE
    assert "bank drift" not in line
    assert "bank drift 0.0123" in plain([stepped(8, numbers=mine)])
    assert "xxx" not in text


def test_a_loss_near_chance_is_noted_once() -> None:
    early = [stepped(step, loss=6.2) for step in (4, 8, 12)]
    late = [stepped(step, loss=6.2) for step in (200, 300, 400)]
    text = plain([Started(out="x", steps=448), *early, *late])
    assert text.count("loss: near chance, as is normal at first\n") == 1
    assert text.count("loss: still near chance: try a lower --lr") == 1


def test_a_flood_of_bad_files_is_cut_off() -> None:
    text = plain([Skipped(path=f"{i}.jpg", reason="truncated") for i in range(100)])
    assert len(text.splitlines()) == SKIPS_SHOWN + 1
    assert "bad_images.jsonl" in text


def test_the_live_panel_draws_and_leaves_the_last_state() -> None:
    stream = Terminal()
    screen = reduce(fold, training(), Screen())
    with LiveSink("pretrain", stream) as sink:
        for event in training():
            sink.show(screen, event)
    assert "448/448 steps" in stream.getvalue()


def test_the_live_panel_makes_room_for_an_error() -> None:
    stream = Terminal()
    with pytest.raises(ValueError, match="broken"), LiveSink("knn-eval", stream):
        raise ValueError("broken")
    written = stream.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is back


def picture() -> Pictured:
    tile = Tile(title="view 1", width=2, height=2, rgb=bytes(range(12)))
    return Pictured(name="views", tiles=(tile,))


@pytest.mark.parametrize(
    ("env", "drawn"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_pictures_are_for_terminals_with_colours(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], drawn: bool
) -> None:
    preview = ModuleType("ssl_cli.ui.preview")
    preview.render = lambda picture, width: f"<{picture.name} at {width}>"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, preview.__name__, preview)
    for name in ("NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"COLUMNS": "77", **env}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    with LiveSink("pretrain", stream) as sink:
        sink.show(Screen(), picture())
    assert ("<views at 77>" in stream.getvalue()) is drawn
    assert plain([picture()]) == ""


def test_a_plan_alone_goes_to_stdout_and_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    events = [*training()[:1], Warned(message="The queue is capped.")]
    assert present("pretrain", events, as_json=False) == 0
    out, err = capsys.readouterr()
    assert "method       simclr                recipe shapes\n" in out
    assert "warning    The queue is capped." in out
    assert "\x1b" not in out
    assert err == ""
    assert present("pretrain", events, as_json=True) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["dry_run"] is True
    assert err == ""


def test_a_plan_that_is_followed_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    events = training()
    events.insert(1, Warned(message="A note on the plan."))
    present("pretrain", events, as_json=False)
    out, err = capsys.readouterr()
    assert "recipe shapes" in err
    assert "recipe shapes" not in out
    assert err.count("A note on the plan.") == 1


def test_what_was_held_back_is_shown_when_training_fails_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Iterator[Event]:
        yield from training()[:1]
        yield Warned(message="A note on the plan.")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        present("pretrain", broken(), as_json=False)
    assert "A note on the plan." in capsys.readouterr().err


def test_the_work_goes_on_when_nobody_reads_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    assert present("pretrain", training(), as_json=False) == 0
    assert "top-1 81.0 %" in capsys.readouterr().out


class Full(io.StringIO):
    """Takes what is written, as Python's buffer does, and fails when that is flushed."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_behind_stderr_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    assert present("pretrain", training(), as_json=False) == 0
    assert "top-1 81.0 %" in capsys.readouterr().out


@pytest.mark.parametrize("as_json", [True, False])
def test_a_result_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    monkeypatch.setattr("ssl_cli.ui.stream.discard", lambda number: None)
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(ResourceError, match="Cannot write the result: there is no room left"):
        present("pretrain", training(), as_json=as_json)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_stopped_run_keeps_its_exit_code_without_a_reader(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("ssl_cli.ui.stream.discard", lambda number: None)
    monkeypatch.setattr(sys, "stdout", Gone())
    assert present("pretrain", stopped(75), as_json=as_json) == 75


def test_json_holds_no_number_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"loss": float("nan"), "rates": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {"loss": None, "rates": [None, 1.5]}


def test_hostile_words_never_reach_a_terminal_as_they_are() -> None:
    stream = Terminal()
    events = [
        Planned(choices=(Choice(name=HOSTILE, value=HOSTILE, reason=HOSTILE),)),
        Started(out=HOSTILE, steps=9),
        stepped(8, numbers={HOSTILE: 1.0}),
        Warned(message=HOSTILE, hint=HOSTILE),
        Saved(path=HOSTILE),
    ]
    screen = Screen()
    with LiveSink("pretrain", stream) as sink:
        for event in events:
            screen = fold(screen, event)
            sink.show(screen, event)
    written = stream.getvalue()
    assert "PWN" in written
    assert "\x1b]" not in written
    assert not set("\x07\u202e\udcff") & set(written)
    assert "[red]b[/red]" in written


def test_results_go_to_stdout_and_all_else_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert present("pretrain", training(), as_json=False) == 0
    out, err = capsys.readouterr()
    assert "top-1 81.0 %" in out
    assert "\x1b" not in out + err
    assert "step 4/448" in err
    assert "step 4/448" not in out


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert present("knn-eval", [knn()], as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == 0.81


def test_a_stopped_run_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert present("pretrain", stopped(75), as_json=True) == 75
    assert json.loads(capsys.readouterr().out)["error"]["code"] == 75


def test_no_line_ends_in_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    print_result([("advice", "many words " * 20)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert lines == [line.rstrip() for line in lines]


def test_long_paths_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    long = "runs/" + "x" * 200
    present("pretrain", training(out=long), as_json=False)
    assert f"sslcli linear-eval {long}" in capsys.readouterr().out


def test_a_ctrl_c_is_answered_at_once_and_once_while_training_only() -> None:
    stream = io.StringIO()
    sink, screen = PlainSink(stream), Screen()
    sink.interrupted()
    for event in [*training()[:2], stepped(64)]:
        screen = fold(screen, event)
        sink.show(screen, event)
    sink.interrupted()
    sink.interrupted()
    assert stream.getvalue().count(STOPPING_SOON) == 1
    assert stream.getvalue().endswith(f"{STOPPING_SOON}\n")


def test_a_ctrl_c_is_shown_in_the_panel() -> None:
    stream = Terminal()
    sink, screen = LiveSink("pretrain", stream), Screen()
    with sink:
        for event in training()[:2]:
            screen = fold(screen, event)
            sink.show(screen, event)
        assert STOPPING_SOON not in stream.getvalue()
        sink.interrupted()
        assert STOPPING_SOON in stream.getvalue()
