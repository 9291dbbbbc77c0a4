"""The benchmark from settings to its last event: on a tiny run, and on made-up parts and a clock of our own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ssl_cli.bench import measure, run
from ssl_cli.bench.advice import LOSS, NETWORK, READING, SHARES
from ssl_cli.bench.machine import Arm, Machine
from ssl_cli.bench.measure import bench
from ssl_cli.bench.parts import PARTS, Part
from ssl_cli.errors import DataError
from ssl_cli.events import Advised, Event, Measured, Warned
from ssl_cli.registry import BENCHES
from tests.bench_parts.toy import Clock, quick, settings


def parts_of(events: list[Event]) -> dict[str, Measured]:
    return {event.name: event for event in events if isinstance(event, Measured) and not event.machine}


def advised(events: list[Event]) -> Advised:
    last = events[-1]
    assert isinstance(last, Advised)
    return last


def test_the_command_line_knows_the_table() -> None:
    assert tuple(PARTS) == BENCHES


def test_all_parts_are_measured_and_come_to_an_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    events = list(bench(settings(), seconds=1e6))
    found = parts_of(events)
    assert list(found) == ["step", "augment", "loader", "cached", "loss", "knn"]
    for name, part in found.items():
        assert (part.n, part.low <= part.rate <= part.high) == (2, True)
        assert (part.reference is not None) == (name not in ("loader", "cached"))  # these images have no files
        assert (part.share is not None) == (name != "loader")
    machine = {event.name for event in events if isinstance(event, Measured) and event.machine}
    assert machine == {"matrix fp32", "memory copy", "memory triad"}
    last = advised(events)
    assert set(last.shares) == set(SHARES)
    assert sum(last.shares.values()) == pytest.approx(1)
    assert (bool(last.bound), bool(last.advice), bool(last.rate), last.notes) == (True, True, True, ())
    assert (last.run["method"], last.run["batch"], last.run["precision"]) == ("simclr", 8, "fp32")
    assert list(tmp_path.iterdir()) == []  # a benchmark leaves no files


@pytest.mark.parametrize("what", PARTS)
def test_each_part_alone(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(Clock(monkeypatch), monkeypatch, 0.01)
    events = list(bench(settings(), what))
    assert list(parts_of(events)) == [what]
    last = advised(events)
    assert (last.shares, last.bound[: len(what)]) == ({}, what)
    assert bool(last.advice) == (what != "knn")


def test_a_step_that_would_take_long_is_measured_at_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    monkeypatch.setattr(run, "STEP_SECONDS", 1e-9)
    events = list(bench(settings(run={"batch": 32}), "augment", seconds=1e6))
    assert isinstance(events[0], Warned)
    assert events[0].message == "A step of 32 images would take too long; 8 were measured."
    assert (advised(events).run["batch"], advised(events).run["asked_batch"]) == (8, 32)


def test_what_keeps_a_run_from_starting_keeps_its_benchmark_too() -> None:
    with pytest.raises(DataError, match="fewer than the batch of 128"):
        list(bench(settings(run={"batch": 128}), "step"))


class FakeRun:
    """Stands in for a run, which takes `seconds` to build on the clock."""

    clock: Clock
    seconds = 5.0

    def __init__(self, settings: object, deadline: float) -> None:
        self.clock.now += self.seconds
        self.batch, self.asked, self.device = [1], 1, torch.device("cpu")
        self.machine = Machine(self.device, deadline)

    def facts(self) -> dict[str, Any]:
        return {}


SECONDS = {"step": NETWORK, "augment": "augmentation", "loader": READING, "loss": LOSS, "knn": ""}


def made_up(clock: Clock, monkeypatch: pytest.MonkeyPatch, call_seconds: float) -> None:
    """Parts whose calls, also of plain code, take so long."""

    def part(name: str, share: str) -> Part:
        both = {share: 2.0, **({"optimiser": 1.0} if name == "step" else {})} if share else {}
        call = Arm(1, clock.takes(call_seconds))
        return Part("images/s", {name: call}, {name: {"memory": 10.0}}, "plain code", call, lambda _: both)

    table = {name: ((lambda _, n=name, s=share: part(n, s)), PARTS[name][1]) for name, share in SECONDS.items()}
    monkeypatch.setattr(measure, "PARTS", table)
    monkeypatch.setattr(measure, "Run", FakeRun)
    monkeypatch.setattr("psutil.cpu_percent", lambda seconds: 100.0)
    monkeypatch.setattr(FakeRun, "clock", clock, raising=False)


@pytest.mark.parametrize(
    ("call_seconds", "most", "measured"),
    [(0.01, 60, 5), (1.0, 60, 5), (5.0, 75, 5), (20.0, 90, 2), (300.0, 310, 1)],
)
def test_a_benchmark_is_bounded_in_time_however_slow_the_machine(
    call_seconds: float, most: float, measured: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends after its minute or, where a call takes longer, with the call that was running by then."""
    clock = Clock(monkeypatch)
    made_up(clock, monkeypatch, call_seconds)
    start = clock.now
    events = list(bench(settings()))
    assert clock.now - start <= most
    assert list(parts_of(events)) == list(PARTS)[:measured]
    last = advised(events)
    assert last.notes[0] == "other programs use 100 % of the processors"
    left_out = list(PARTS)[measured:]
    assert last.notes[1:] == ((f"left out, as 60 s were over: {', '.join(left_out)}",) if left_out else ())
    assert (last.advice == "Measure the parts one by one.") == (measured < 4)


def test_the_loss_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    made_up(clock, monkeypatch, 0.01)
    last = advised(list(bench(settings())))
    assert last.rate == pytest.approx(1 / (2.0 + 2.0 + 2.0 + 1.0))  # reading, augmentation, loss, optimiser
    assert last.shares[NETWORK] == 0.0


def test_plain_code_that_does_not_run_is_left_out_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 43 GiB")

    part = Part("images/s", {"a": Arm(1, lambda: None)}, {"a": {}}, "plain code", Arm(1, fails))
    notes: list[str] = []
    events, _, _ = measure._measure(part, SimpleNamespace(machine=Machine(torch.device("cpu"), 1e9)), notes)  # type: ignore[arg-type]
    assert (events[0].reference, events[0].against) == (None, "")
    assert notes == ["plain code does not run here: CUDA out of memory. Tried to allocate 43 GiB"]
