"""kNN during training: on which images, at which log steps, and without any effect on the run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli import checkpoint
from ssl_cli.data.sources import open_pretraining
from ssl_cli.data.split import Subset
from ssl_cli.engine.evaluation import monitor
from ssl_cli.engine.evaluation.monitor import Monitor
from ssl_cli.events import Evaluated, Warned
from ssl_cli.nn.evaluating import fingerprint
from tests.contract.test_methods import build
from tests.engine.test_pretrain import only, run, settings
from tests.faults.runs import tensors

CPU = torch.device("cpu")


def make(tmp_path: Path, **data: object) -> Monitor:
    chosen = settings(tmp_path / "run", data={"images": 300, **data}, run={"monitor": True, "batch": 32})
    return Monitor(open_pretraining(chosen.data, 0), chosen, "fp32", CPU)


@pytest.fixture
def at_every_log_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "EVERY", 1)


def test_queries_are_not_in_the_bank_and_the_seed_chooses_both(tmp_path: Path) -> None:
    one, two = make(tmp_path), make(tmp_path)
    bank, queries = one.bank.indices, one.queries.indices  # type: ignore[attr-defined]
    assert (len(bank), len(queries)) == (240, 60)
    assert not set(bank.tolist()) & set(queries.tolist())
    assert torch.equal(bank, two.bank.indices)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("batch", "images"), [(8, 80), (300, 2500)])
def test_it_takes_ten_batches_and_at_most_2500_images(tmp_path: Path, batch: int, images: int) -> None:
    chosen = settings(tmp_path / "run", data={"images": 2600}, run={"monitor": True, "batch": batch})
    found = Monitor(open_pretraining(chosen.data, 0), chosen, "fp32", CPU)
    assert len(found.bank) + len(found.queries) == images


def test_it_measures_at_every_tenth_log_step(tmp_path: Path) -> None:
    meter, objective = make(tmp_path), build("simclr")
    events = [event for step in range(5, 105, 5) for event in meter.measure(objective, step)]
    assert [(type(event), event.step) for event in events] == [(Evaluated, 50), (Evaluated, 100)]


def test_nothing_of_the_objective_changes(tmp_path: Path, at_every_log_step: None) -> None:
    objective = build("moco-v2")
    before, generator = fingerprint(objective), torch.get_rng_state()
    (event,) = make(tmp_path).measure(objective, 5)
    assert isinstance(event, Evaluated)
    assert (event.name, event.result["bank"], event.result["queries"]) == ("online_knn", 240, 60)
    assert 0 <= event.result["top1"] <= 1
    assert fingerprint(objective) == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert objective.training


def test_an_error_is_a_warning_and_the_end_of_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_every_log_step: None
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(monitor, "encode", broken)
    meter = make(tmp_path)
    (event,) = meter.measure(build("simclr"), 5)
    assert isinstance(event, Warned)
    assert "not enough memory" in event.message
    assert list(meter.measure(build("simclr"), 6)) == []


def test_a_forward_pass_has_no_more_rows_than_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_every_log_step: None
) -> None:
    seen: list[int] = []
    objective = build("simclr")
    represent = objective.represent

    def counting(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return represent(x)

    monkeypatch.setattr(objective, "represent", counting)
    chosen = settings(tmp_path / "run", data={"images": 100}, run={"monitor": True})
    list(Monitor(open_pretraining(chosen.data, 0), chosen, "fp32", CPU, micro=16).measure(objective, 1))
    assert max(seen) == 16


def test_a_run_is_the_same_with_and_without_it(tmp_path: Path, at_every_log_step: None) -> None:
    ends = []
    hardware = {"mode": "direct", "micro_batch": 32}  # not what the free memory of the moment allows
    for name, on in (("a", True), ("b", False)):
        events = run(settings(tmp_path / name, data={"images": 64}, run={"monitor": on}, hardware=hardware))
        assert bool([e for e in only(events, Evaluated) if e.name == "online_knn"]) is on
        ends.append(tensors(checkpoint.load(checkpoint.locate(str(tmp_path / name))[0])["objective"]))
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


class Files(Subset):
    """Count how often images are read."""

    reads = 0

    def read(self, index: int, cap: int | None = None) -> torch.Tensor:
        Files.reads += 1
        return super().read(index, cap)


@pytest.mark.parametrize(("largest", "again"), [(2**26, 0), (0, 300)])
def test_images_that_fit_are_decoded_for_the_first_measurement_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_every_log_step: None, largest: int, again: int
) -> None:
    monkeypatch.setattr(monitor, "LARGEST", largest)
    monkeypatch.setattr(Files, "reads", 0)
    chosen = settings(tmp_path / "run", data={"images": 300}, run={"monitor": True, "batch": 32})
    files = Files(open_pretraining(chosen.data, 0), torch.arange(300))
    objective, meter = build("simclr"), Monitor(files, chosen, "fp32", CPU)
    list(meter.measure(objective, 1))
    assert Files.reads == 300
    with torch.no_grad():
        for parameter in objective.backbone.parameters():
            parameter.mul_(1.5)
    (event,) = meter.measure(objective, 2)
    assert Files.reads == 300 + again
    (anew,) = Monitor(files, chosen, "fp32", CPU).measure(objective, 2)
    assert isinstance(event, Evaluated)
    assert isinstance(anew, Evaluated)
    assert event.result == anew.result


def test_too_few_or_unlabelled_images_are_not_measured(tmp_path: Path, at_every_log_step: None) -> None:
    assert list(make(tmp_path, images=40).measure(build("simclr"), 1)) == []
    source = open_pretraining(settings(tmp_path, data={"images": 300}).data, 0)
    source.labels = torch.full((300,), -1)
    chosen = settings(tmp_path, run={"monitor": True})
    assert list(Monitor(source, chosen, "fp32", CPU).measure(build("simclr"), 1)) == []
