"""kNN while training: what it looks at, when, and that the run never notices."""

from pathlib import Path

import pytest
import torch

from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine import checkpoint, monitor
from ssl_cli.engine.features import fingerprint
from ssl_cli.engine.monitor import Monitor
from ssl_cli.events import Evaluated
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
    (event,) = make(tmp_path).measure(objective, 5, rate=100.0)
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
    objective, measured = build("simclr"), 0
    while clock[0] < 1000:
        clock[0] += 1
        measured += len(list(meter.measure(objective, 1, rate=100.0)))
    assert 10 <= measured <= 15  # two seconds each in a thousand: 3 % are fifteen


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
    assert list(make(tmp_path, images=40).measure(build("simclr"), 1, rate=1e9)) == []
    source = open_pretraining(settings(tmp_path, data={"images": 300}).data, 0)
    source.labels = torch.full((300,), -1)
    chosen = settings(tmp_path, run={"monitor": True})
    assert list(Monitor(source, chosen, "fp32", CPU).measure(build("simclr"), 1, rate=1e9)) == []
