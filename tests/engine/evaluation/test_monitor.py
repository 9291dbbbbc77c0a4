"""kNN while training: what it looks at, when, and that the run never notices."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.evaluation import monitor
from ssl_cli.engine.evaluation.features import encode, fingerprint
from ssl_cli.engine.evaluation.monitor import Monitor
from ssl_cli.engine.run import checkpoint
from ssl_cli.events import Evaluated, Warned
from ssl_cli.objective import Objective
from tests.contract.test_methods import build
from tests.engine.test_pretrain import only, run, settings
from tests.faults.runs import tensors

CPU = torch.device("cpu")


def make(tmp_path: Path, **data: object) -> Monitor:
    chosen = settings(tmp_path / "run", data={"images": 300, **data}, run={"monitor": True})
    return Monitor(open_pretraining(chosen.data, 0), chosen, "fp32", CPU)


def test_queries_are_not_in_the_bank_and_the_choice_is_the_seed_s(tmp_path: Path) -> None:
    one, two = make(tmp_path), make(tmp_path)
    bank, queries = one.bank.indices, one.queries.indices  # type: ignore[attr-defined]
    assert (len(bank), len(queries)) == (240, 60)
    assert not set(bank.tolist()) & set(queries.tolist())
    assert torch.equal(bank, two.bank.indices)  # type: ignore[attr-defined]
    assert monitor.IMAGES <= 5000


def test_nothing_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "SHARE", 1e9)
    objective = build("moco-v2")
    before, generator = fingerprint(objective), torch.get_rng_state()
    (event,) = make(tmp_path).measure(objective, 5)
    assert isinstance(event, Evaluated)
    assert (event.name, event.result["bank"], event.result["queries"]) == ("online_knn", 240, 60)
    assert 0 <= event.result["top1"] <= 1
    assert fingerprint(objective) == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert objective.training


def test_it_keeps_to_its_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    meter = make(tmp_path)

    def slow(objective: object) -> dict[str, float]:
        clock[0] += 2.0
        return {"top1": 0.5, "k": 20, "bank": 1, "queries": 1}

    monkeypatch.setattr(meter, "_knn", slow)
    monkeypatch.setattr(meter, "_tried", lambda _: 2.0)
    objective, measured = build("simclr"), 0
    while clock[0] < 1000:
        clock[0] += 1
        measured += len(list(meter.measure(objective, 1)))
    assert 10 <= measured <= 15  # two seconds each in a thousand: 3 % are fifteen


def test_a_slow_one_is_found_out_on_a_few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading may cost far more than the network does, and the first measurement must not be the one that tells."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    meter = make(tmp_path)

    def slow(represents: Any, source: Source, *args: Any, **kwargs: Any) -> Any:
        clock[0] += 0.1 * len(source)
        return encode(represents, source, *args, **kwargs)

    monkeypatch.setattr(monitor, "encode", slow)
    objective = build("simclr")
    first = next(second for second in range(10**4) if _measured_at(meter, objective, clock, second))
    assert first == pytest.approx((30 + 3.2) / monitor.SHARE, rel=0.05)


def _measured_at(meter: Monitor, objective: Objective, clock: list[float], second: int) -> bool:
    clock[0] = max(clock[0], float(second))
    return bool(list(meter.measure(objective, 1)))


def test_what_goes_wrong_is_a_warning_and_the_end_of_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(monitor, "encode", broken)
    meter = make(tmp_path)
    (event,) = meter.measure(build("simclr"), 5)
    assert isinstance(event, Warned)
    assert "not enough memory" in event.message
    assert list(meter.measure(build("simclr"), 6)) == []


def test_it_takes_no_more_rows_at_once_than_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "SHARE", 1e9)
    seen: list[int] = []
    objective = build("simclr")
    represent = objective.represent

    def counting(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return represent(x)

    monkeypatch.setattr(objective, "represent", counting)
    chosen = settings(tmp_path / "run", data={"images": 300}, run={"monitor": True})
    list(Monitor(open_pretraining(chosen.data, 0), chosen, "fp32", CPU, micro=16).measure(objective, 1))
    assert max(seen) == 16


def test_a_run_is_the_same_with_it_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "SHARE", 1e9)
    ends = []
    for name, on in (("a", True), ("b", False)):
        events = run(settings(tmp_path / name, data={"images": 128}, run={"monitor": on}))
        assert bool([e for e in only(events, Evaluated) if e.name == "online_knn"]) is on
        ends.append(tensors(checkpoint.load(checkpoint.find(str(tmp_path / name)))["objective"]))
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_too_few_or_unlabelled_images_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "SHARE", 1e9)
    assert list(make(tmp_path, images=40).measure(build("simclr"), 1)) == []
    source = open_pretraining(settings(tmp_path, data={"images": 300}).data, 0)
    source.labels = torch.full((300,), -1)
    chosen = settings(tmp_path, run={"monitor": True})
    assert list(Monitor(source, chosen, "fp32", CPU).measure(build("simclr"), 1)) == []
