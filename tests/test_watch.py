"""`sslcli watch`: the events of a run as they are written, its end however it ends, and nothing of it changed."""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ssl_cli import lock, status
from ssl_cli.cli import main
from ssl_cli.errors import CheckpointError
from ssl_cli.events import (
    Calibrated,
    Evaluated,
    Event,
    Finished,
    Planned,
    Started,
    Stepped,
    Stopped,
    Warned,
    from_record,
    record,
)
from ssl_cli.watch import watch
from tests.ui.events import training


class Run:
    """A run folder that this process writes, locked as a run's process does."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.alive = folder, True
        folder.mkdir()
        monkeypatch.setattr(lock, "is_held", lambda _: self.alive)
        self.state("running")

    def state(self, state: str, code: int | None = None, reason: str = "") -> None:
        status.write(self.folder, "0" * 32, state, code, reason)

    def write(self, *events: Event | str) -> None:
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.writelines(event if isinstance(event, str) else json.dumps(record(event)) + "\n" for event in events)

    def steps(self, *acts: Callable[[], object]) -> Callable[[], None]:
        """Return a pause that does the next of these; after the last one the run would never end."""
        left = iter(acts)
        return lambda: (next(left)(), None)[1]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path / "run", monkeypatch)


def step(number: int, **values: Any) -> Stepped:
    form: dict[str, Any] = {"epoch": 0.5, "loss": 2.0, "chance": 4.0, "lr": 0.1, "rate": 100.0, "step_seconds": 0.1,
                            "data_wait": 0.0, "memory": 1000}  # fmt: skip
    return Stepped(step=number, **{**form, **values})


def names(events: Iterator[Event]) -> list[str]:
    return [f"{type(event).__name__} {event.step}" for event in events]


def test_every_event_comes_back_as_it_was() -> None:
    for event in training():
        back = from_record(json.loads(json.dumps(record(event))))
        assert back is not None
        assert record(back) == record(event)
        assert type(back) is type(event)
        assert dataclasses.is_dataclass(back)
    assert from_record({"event": "stepped", "step": "x"}) is None
    assert from_record({"event": "other", "step": 1}) is None
    lost = from_record(json.loads(json.dumps(record(step(3, loss=float("nan"))))))
    assert isinstance(lost, Stepped)
    assert lost.loss != lost.loss


def test_events_come_as_they_are_written_and_end_with_the_run(run: Run) -> None:
    run.write(Planned(choices=()), Started(out="elsewhere", steps=3))
    line = json.dumps(record(step(2))) + "\n"

    def finish() -> None:
        run.write(Finished(step=3, steps=3, seconds=1.0, peak_memory=1))
        run.state("finished", 0)

    pause = run.steps(
        lambda: run.write(step(1)),
        lambda: run.write(line[:40]),
        lambda: run.write(line[40:], "no event\n", step(3)),
        lambda: None,
        finish,
    )
    events = list(watch(run.folder, pause))
    assert names(iter(events)) == ["Planned 0", "Started 0", "Stepped 1", "Stepped 2", "Stepped 3", "Finished 3"]
    assert isinstance(events[1], Started)
    assert events[1].out == str(run.folder)  # as it is seen from here


def test_what_is_written_between_the_last_look_and_the_end_is_not_lost(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = status.state

    def ending(folder: Path) -> str | None:
        run.write(step(1), Finished(step=1, steps=1, seconds=1.0, peak_memory=1))
        run.state("finished", 0)
        return asked(folder)

    monkeypatch.setattr(status, "state", ending)
    assert names(watch(run.folder, lambda: None)) == ["Stepped 1", "Finished 1"]


@pytest.mark.parametrize(
    ("end", "code", "reason"),
    [
        (("failed", 3, "Too many images."), 3, "Too many images."),
        (("stopped", 130, "SIGINT was received"), 130, "SIGINT was received"),
        (None, 75, "its process was killed, or the machine stopped"),
    ],
)
def test_an_end_that_no_event_says_is_said(run: Run, end: Any, code: int, reason: str) -> None:
    run.write(Planned(choices=()), Started(out="x", steps=9), step(4))

    def ending() -> None:
        run.state(*end) if end else setattr(run, "alive", False)

    *_, last = watch(run.folder, run.steps(ending))
    state = end[0] if end else "died"
    assert last == dataclasses.replace(Stopped(step=4, exit_code=code, reason=reason, state=state), time=last.time)


def test_a_run_that_ends_as_it_is_looked_at_has_not_died(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its status, `running`, and its lock, which is free by then, the run ends."""

    def released(_: Path) -> bool:
        run.state("finished", 0)
        return False

    monkeypatch.setattr(lock, "is_held", released)
    run.write(step(1))
    assert names(watch(run.folder)) == ["Stepped 1"]


def test_of_a_resumed_run_the_training_of_before_comes_first(run: Run) -> None:
    knn = {"top1": 0.5, "k": 5, "bank": 10, "queries": 5}
    run.write(
        Planned(choices=()), Started(out="x", steps=9), step(1), Evaluated(step=1, name="online_knn", result=knn),
        Stopped(step=1, exit_code=75, reason="SIGTERM"), Planned(choices=()),
        Started(step=1, out="x", steps=9), step(2),
    )  # fmt: skip
    run.state("finished", 0)
    found = names(watch(run.folder))
    assert found == ["Started 0", "Stepped 1", "Evaluated 1", "Planned 0", "Started 1", "Stepped 2"]


@pytest.mark.parametrize(
    "again", [[], [Planned(choices=()), Warned(message="it died")]], ids=["trained", "planned again"]
)
def test_a_killed_run_has_its_steps_and_one_word_everywhere(
    run: Run, again: list[Event], capsys: pytest.CaptureFixture[str]
) -> None:
    corrected = Calibrated(step=1, steps=5, before=9, epochs=1, step_seconds=1, message="5 steps instead of 9")
    run.write(Planned(choices=()), Started(out="x", steps=9), step(1), corrected, step(2), *again)
    run.alive = False
    assert main(["watch", str(run.folder)]) == 75
    seen = capsys.readouterr()
    assert re.findall(r"step \d/\d", seen.err) == ["step 1/9", "step 2/5"]
    assert "died       at step 2 of 5" in seen.out
    assert main(["runs", str(run.folder)]) == 0
    said = seen.out + capsys.readouterr().out
    assert said.count("died") == 2
    assert "running" not in said
    assert "stopped," not in said


def test_a_run_that_died_before_its_first_step_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.write(Planned(choices=()))
    run.alive = False
    assert main(["watch", str(run.folder)]) == 75
    assert "died       before its first step" in capsys.readouterr().out


def test_nothing_of_the_run_is_changed_or_held(run: Run) -> None:
    run.write(Planned(choices=()), Started(out="x", steps=2), step(1))

    def facts() -> dict[str, Any]:
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.folder.iterdir()}

    before = facts()
    events = watch(run.folder, lambda: time.sleep(0))
    for _ in range(3):
        next(events)
    assert facts() == before
    events.close()  # type: ignore[attr-defined]


def test_another_run_in_its_place_is_said(run: Run) -> None:
    run.write(step(1), step(2))
    pause = run.steps(lambda: (run.folder / "metrics.jsonl").write_text(""), lambda: None)
    with pytest.raises(CheckpointError, match="Another run has taken the place"):
        list(watch(run.folder, pause))


def finished(run: Run) -> None:
    run.write(*training())
    run.state("finished", 0)


def test_the_command_shows_what_the_run_showed(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    finished(run)
    assert main(["watch", str(run.folder)]) == 0
    captured = capsys.readouterr()
    assert "step " in captured.err
    assert str(run.folder) in captured.out
    assert main(["watch", str(run.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["of_steps"] > 0


def test_a_run_that_died_is_said_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.write(Planned(choices=()), Started(out="x", steps=9), step(4))
    run.alive = False
    assert main(["watch", str(run.folder)]) == 75
    captured = capsys.readouterr()
    assert "its process was killed, or the machine stopped" in captured.out
    assert f"--resume --out {run.folder}" in captured.out


HOSTILE = [
    "[" * 100_000, '{"event": "stepped", "step": 1e400}', '{"event": "evaluated", "name": "online_knn", "result": {}}',
    '{"event": "planned", "choices": [3]}', "\0" * 3_000_000,
]  # fmt: skip


def test_whatever_stands_in_its_files_is_passed_over(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.write(*(f"{line}\n" for line in HOSTILE), step(1))
    run.state("finished", 0)
    assert names(watch(run.folder)) == ["Stepped 1"]
    assert main(["watch", str(run.folder)]) == 0
    out = capsys.readouterr().out
    assert "does not say how the run started" in out
    assert "knn-eval ''" not in out


def test_an_event_without_what_the_report_needs_is_one_sentence(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.write(Planned(choices=()), Started(out="x", steps=9), Evaluated(name="knn", result={"top1": "high"}))
    run.state("finished", 0)
    assert main(["watch", str(run.folder)]) == 4
    assert "holds what no run writes" in capsys.readouterr().err


def test_there_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path)]) == 4
    assert "There is no run in" in capsys.readouterr().err
    assert main(["watch", str(tmp_path / "none")]) == 4
