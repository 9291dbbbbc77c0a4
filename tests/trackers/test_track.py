"""Trackers get what metrics.jsonl gets, and whatever they do, a run neither stops nor waits."""

import json
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from ssl_cli import events as kinds_of_event
from ssl_cli import packages, status
from ssl_cli.events import Evaluated, Event, Finished, Planned, Stopped, Warned
from ssl_cli.registry import TRACKERS
from ssl_cli.trackers import places, recorder, track
from ssl_cli.trackers.kinds import KINDS, TrackedRun
from tests.trackers import fakes
from tests.trackers.fakes import Fake, events, stepped, write_settings


def said(found: list[Event]) -> list[str]:
    return [event.message for event in found if isinstance(event, Warned)]


def test_a_tracker_gets_settings_steps_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = fakes.install(monkeypatch, "wandb", Fake)
    write_settings(tmp_path, "wandb")
    result = Evaluated(step=3, name="knn", result={"top1": 0.5, "baselines": {"pixels": 0.2}, "per_class": {"a": 1}})
    recorded: list[Event] = []
    found = fakes.run(tmp_path, events(3, result), recorded.append)
    assert found == recorded
    assert not said(found)
    assert isinstance(found[0], Planned)
    assert [choice.value for choice in found[0].choices] == ["wandb"]
    assert isinstance(found[-1], Finished)
    (fake,) = kind.made
    assert fake.run.settings["run.batch"] == 16
    assert fake.run.settings["optim.lr"] == 0.1
    assert [step for step, _ in fake.logged] == [1, 2, 3, 3, 3]
    assert fake.logged[1][1]["train/loss"] == 1.0
    assert fake.logged[3][1] == {"knn/top1": 0.5, "knn/baselines/pixels": 0.2}
    assert fake.logged[4][1] == {"run/seconds": 1.0, "run/peak_memory": 1.0}
    assert fake.state == status.FINISHED
    assert places.earlier_id(tmp_path, "wandb") == "fake of its id"


def test_nothing_is_started_where_none_is_asked_for(tmp_path: Path) -> None:
    write_settings(tmp_path)
    found = fakes.run(tmp_path, events(2))
    assert [type(event).__name__ for event in found] == ["Planned", "Started", "Stepped", "Stepped", "Finished"]
    assert found[0] == Planned(choices=(), time=found[0].time)
    assert not (tmp_path / "trackers").exists()


def test_numbers_that_are_not_finite_and_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = fakes.install(monkeypatch, "mlflow", Fake)
    write_settings(tmp_path, "mlflow")
    fakes.run(tmp_path, events(0, stepped(1, loss=float("nan"), **{"a/b[c]\x1bé": 2.0, "inf": float("inf")})))
    numbers = kind.made[0].logged[0][1]
    assert "train/loss" not in numbers
    assert "train/inf" not in numbers
    assert numbers["train/a/b_c___"] == 2.0


class Raising(Fake):
    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        super().log(step, numbers)
        if step == 2:
            raise SystemExit("no more\nroom \x1b[31m")


class Unopened(Fake):
    def __init__(self, run: TrackedRun) -> None:
        raise OSError("the server is gone")


class Unclosed(Fake):
    def close(self, state: str) -> None:
        raise ValueError


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Raising, "SystemExit: no more room"), (Unopened, "OSError: the server is gone"), (Unclosed, "ValueError")],
)
def test_an_error_is_said_once_and_ends_the_tracker_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Fake], why: str
) -> None:
    fakes.install(monkeypatch, "wandb", kind)
    well = fakes.install(monkeypatch, "mlflow", type("Well", (Fake,), {}))
    write_settings(tmp_path, "wandb", "mlflow")
    recorded: list[Event] = []
    found = fakes.run(tmp_path, events(30), recorded.append)
    (message,) = said(found)
    assert message.startswith(f"The tracker wandb failed and is off from here on: {why}")
    assert "\x1b" not in message
    assert found == recorded
    assert isinstance(found[-1], Finished)
    assert [step for step, _ in well.made[0].logged] == [*range(1, 31), 30]
    if kind is Raising:
        assert [step for step, _ in kind.made[0].logged] == [1, 2]


class Hanging(Fake):
    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.release.wait()


@pytest.mark.parametrize("last", [None, Stopped(step=9, exit_code=130, reason="SIGINT was received")])
def test_one_that_hangs_holds_neither_the_steps_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: Event | None
) -> None:
    kind = fakes.install(monkeypatch, "wandb", Hanging)
    write_settings(tmp_path, "wandb")
    monkeypatch.setattr(track, "ENDS", {Finished: (status.FINISHED, 0.05), Stopped: (status.STOPPED, 0.05)})
    monkeypatch.setattr(recorder, "hung", [])
    monkeypatch.setattr(recorder, "QUEUE", 4)
    stdout, stderr = sys.stdout, sys.stderr
    try:
        found = fakes.run(tmp_path, events(9, last=last))
        off, lost = said(found)
        assert off == "The tracker wandb failed and is off from here on: it did not end in time."
        assert 8 <= int(lost.split()[0]) <= 10  # all but the one that hangs, if it was taken
        assert lost.endswith("events were not logged in wandb: it was too slow for them.")
        assert type(found[-1]) is type(last or Finished(steps=1, seconds=1, peak_memory=1))
        assert recorder.hung == ["wandb"]
    finally:
        kind.release.set()
        sys.stdout, sys.stderr = stdout, stderr


def test_a_full_queue_drops_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = fakes.install(monkeypatch, "wandb", type("Slow", (Hanging,), {}))
    write_settings(tmp_path, "wandb")
    monkeypatch.setattr(recorder, "QUEUE", 5)

    def released() -> list[Event]:
        found = []
        for event in track.tracked(events(20), lambda event: None, tmp_path, "its id"):
            if event.step == 20:
                kind.release.set()
            found.append(event)
        return found

    (message,) = said(released())
    dropped = int(message.split()[0])
    assert 20 - 5 - 1 <= dropped <= 20
    assert message == f"{dropped} events were not logged in wandb: it was too slow for them."


def test_an_error_of_the_run_closes_the_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = fakes.install(monkeypatch, "wandb", Fake)
    write_settings(tmp_path, "wandb")

    def failing() -> Generator[Event, None, None]:
        yield Planned(choices=())
        yield stepped(1)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        fakes.run(tmp_path, failing())
    assert kind.made[0].state == status.FAILED
    assert len(kind.made[0].logged) == 1


def test_a_reader_that_stops_saves_first_and_closes_the_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, saved = fakes.install(monkeypatch, "wandb", Fake), []
    write_settings(tmp_path, "wandb")

    def endless() -> Generator[Event, None, None]:
        try:
            yield Planned(choices=())
            yield from (stepped(step) for step in range(1, 10**9))
        finally:
            saved.append(kind.made[0].state)

    found = track.tracked(endless(), lambda event: None, tmp_path, "its id")
    while next(found).step < 3:
        pass
    found.close()
    assert saved == [""]
    assert kind.made[0].state == status.STOPPED


def test_what_a_tracker_prints_is_neither_in_the_result_nor_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Talking(Fake):
        def log(self, step: int, numbers: Mapping[str, float]) -> None:
            sys.stdout.write("a word")
            sys.stderr.write("another one")
            super().log(step, numbers)

    kind = fakes.install(monkeypatch, "wandb", Talking)
    write_settings(tmp_path, "wandb")
    before = sys.stdout
    for event in track.tracked(events(2), lambda event: None, tmp_path, "its id"):
        if event.step == 2:
            sys.stdout.write("the caller's own")
    assert sys.stdout is before
    assert len(kind.made[0].logged) == 3
    written = capsys.readouterr()
    assert set(written.out.split("the caller's own")) == {""}
    assert written.err == ""


def test_a_resumed_run_has_the_same_id_and_no_step_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = fakes.install(monkeypatch, "wandb", Fake)
    write_settings(tmp_path, "wandb")

    def record(event: Event) -> None:
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(kinds_of_event.record(event)) + "\n")

    early, late = (Evaluated(step=step, name="online_knn", result={"top1": step / 10}) for step in (4, 8))

    def first_process() -> Generator[Event, None, None]:
        yield Planned(choices=())
        yield from (stepped(step) for step in range(1, 5))
        yield early
        yield from (stepped(step) for step in range(5, 9))

    killed = track.tracked(first_process(), record, tmp_path, "its id")
    while next(killed).step < 6:
        pass
    killed.close()

    def resumed() -> Generator[Event, None, None]:
        yield Planned(choices=())
        yield from (stepped(step) for step in (3, 4))  # from a checkpoint of step 2
        yield early
        yield from (stepped(step) for step in range(5, 9))
        yield late
        yield Finished(step=8, steps=8, seconds=1.0, peak_memory=1)

    fakes.run(tmp_path, resumed(), record)
    first, second = kind.made
    assert second.run.earlier == first.id == second.id
    steps = [[step for step, numbers in fake.logged if "train/loss" in numbers] for fake in (first, second)]
    assert steps == [[1, 2, 3, 4, 5, 6], [7, 8]]
    found = [numbers for fake in (first, second) for _, numbers in fake.logged if "online_knn/top1" in numbers]
    assert found == [{"online_knn/top1": 0.4}, {"online_knn/top1": 0.8}]


def test_a_later_result_is_shown_by_the_run_s_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = fakes.install(monkeypatch, "wandb", Fake)
    event = Evaluated(step=8, name="linear", result={"top1": 0.75})
    assert not list(track.track_later(tmp_path, event))
    assert not kind.made
    places.keep_id(tmp_path, "wandb", "the id")
    assert not list(track.track_later(tmp_path, event))
    assert kind.made[0].run.earlier == "the id"
    assert kind.made[0].logged == [(8, {"linear/top1": 0.75})]


def test_a_folder_of_its_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wandb", "trackio"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "wandb").mkdir()
    assert not packages.is_installed("wandb")
    (tmp_path / "trackio.py").touch()
    assert packages.is_installed("trackio")


def test_deleting_a_run_deletes_what_its_trackers_wrote(tmp_path: Path) -> None:
    for name in ("tensorboard", "mlruns"):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / "file").touch()
    places.keep_id(tmp_path, "tensorboard", "its id")
    places.delete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlruns"]  # nobody's that we know


def test_waiting_is_bounded_for_all_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, deadlines, join = fakes.install(monkeypatch, "wandb", Hanging), list[float](), recorder.Recorder.join
    monkeypatch.setattr(recorder, "hung", [])

    def noted(self: recorder.Recorder, deadline: float) -> None:
        deadlines.append(deadline)
        join(self, deadline)

    monkeypatch.setattr(recorder.Recorder, "join", noted)
    found = [recorder.Recorder(name, lambda: kind(TrackedRun(tmp_path, "its id"))) for name in ("json", "csv")]
    for one in found:
        one.put(1, {"loss": 1.0})
    recorder.close(found, status.STOPPED, 0.05)
    kind.release.set()
    assert recorder.hung == ["json", "csv"]
    assert len(deadlines) == 2
    assert len(set(deadlines)) == 1


def test_every_tracker_is_there() -> None:
    assert KINDS.keys() == set(TRACKERS)
    assert places.LOCAL.keys() <= set(TRACKERS)
