"""The benchmark from settings to its last event, on a run too small to learn anything."""

from pathlib import Path

import pytest

from ssl_cli.bench import measure, subject
from ssl_cli.bench.advice import LOSS, PASSES, READING, WORK
from ssl_cli.bench.measure import bench, times_of
from ssl_cli.errors import DataError
from ssl_cli.events import Advised, Measured, Warned
from ssl_cli.registry import BENCHES
from tests.bench_parts.toy import quick, settings


def test_all_parts_are_measured_and_come_to_an_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    events = list(bench(settings(), "all"))
    parts = {event.name: event for event in events if isinstance(event, Measured) and not event.machine}
    assert list(parts) == ["augment", "loss", "loader", "cached", "step", "knn"]
    for part in parts.values():
        assert part.n >= 5
        assert part.low <= part.rate <= part.high
        assert part.reference is not None
        assert part.share is not None
    machine = {event.name for event in events if isinstance(event, Measured) and event.machine}
    assert {"matrix fp32", "memory copy", "memory triad", "decode, 1 thread"} <= machine
    last = events[-1]
    assert isinstance(last, Advised)
    assert set(last.shares) == {READING, *WORK}
    assert sum(last.shares.values()) == pytest.approx(1)
    assert last.bound
    assert last.advice
    assert last.rate
    assert (last.run["method"], last.run["batch"], last.run["precision"]) == ("simclr", 8, "fp32")
    assert list(tmp_path.iterdir()) == []  # a benchmark leaves nothing behind


@pytest.mark.parametrize("what", [name for name in BENCHES if name != "loader"])
@pytest.mark.parametrize("method", ["instdisc", "moco-v2"])
def test_each_part_alone(what: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    own = {"queue": 16} if method == "moco-v2" else {}
    events = list(bench(settings(method={"name": method, **own}), what))
    assert [event.name for event in events if isinstance(event, Measured) and not event.machine] == [what]
    last = events[-1]
    assert isinstance(last, Advised)
    assert last.shares == {}
    assert bool(last.advice) == (what != "knn")


def test_a_step_that_would_take_long_is_measured_at_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(subject, "STEP_SECONDS", 1e-9)
    events = list(bench(settings(run={"batch": 32}), "augment"))
    assert isinstance(events[0], Warned)
    assert events[0].message.startswith("A step of 32 images would take too long here; 8 were measured.")
    last = events[-1]
    assert isinstance(last, Advised)
    assert (last.run["batch"], last.run["asked_batch"]) == (8, 32)


@pytest.mark.parametrize(
    ("batch", "rate", "measured"), [(256, 1000.0, 256), (4096, 1000.0, 2048), (4096, 0.1, 8), (4, 0.1, 4), (9, None, 9)]
)
def test_the_smaller_batch_is_a_power_of_two_that_takes_a_moment(batch: int, rate: float | None, measured: int) -> None:
    assert subject._fewer(batch, rate) == measured


def test_other_programs_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(measure, "processors", lambda: 2)
    monkeypatch.setattr(measure, "busy_elsewhere", lambda: 0.39)
    assert not list(measure._busy())
    monkeypatch.setattr(measure, "busy_elsewhere", lambda: 1.4)
    (warned,) = measure._busy()
    assert "1.4 of 2 processors busy" in warned.message


def test_the_loss_is_not_counted_twice() -> None:
    seconds = {READING: 1.0, "augmentation": 2.0, PASSES: 5.0, LOSS: 1.5, "optimiser": 0.5}
    times = times_of(seconds, beside=False)
    assert times.seconds[PASSES] == 3.5
    assert times.total == 8.5


def test_what_keeps_a_run_from_starting_keeps_its_benchmark_too(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    with pytest.raises(DataError, match="fewer than the batch of 128"):
        list(bench(settings(run={"batch": 128}), "step"))
