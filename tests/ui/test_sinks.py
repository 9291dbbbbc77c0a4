"""Displays: a panel only where it can be redrawn, plain lines elsewhere, results on stdout alone."""

import io
import json
from functools import reduce

import pytest

from ssl_cli.events import Event, Skipped
from ssl_cli.ui.screen import Screen, fold
from ssl_cli.ui.sinks import SKIPS_SHOWN, LiveSink, PlainSink, can_redraw, present
from tests.ui.events import HOSTILE, knn, stopped, training


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
        "plan: method = simclr (recipe shapes)", "run: runs/first, 448 steps", "step 4/448  epoch 0.06  loss",
        "(chance 6.24)", "812 images/s  2.00 s/step  data 2.0 %  1.2 GB", "14 min 48 s left",
        "skipped: runs/first/bad.jpg", "warning: The queue is capped. Pass", "saved: runs/first/checkpoints",
    ):  # fmt: skip
        assert words in text
    assert "stopped: SIGTERM was received" in plain(stopped())


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


def test_long_paths_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    long = "runs/" + "x" * 200
    present("pretrain", training(out=long), as_json=False)
    assert f"sslcli linear-eval {long}" in capsys.readouterr().out
