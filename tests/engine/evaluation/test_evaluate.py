"""kNN and the linear probe on a run: the pinned result, its file in the run folder, and errors in one sentence."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli.augment import evaluation
from ssl_cli.config.methods import method_settings
from ssl_cli.config.other_data import with_data
from ssl_cli.data.sources import Evaluation, open_evaluation
from ssl_cli.data.split import subset
from ssl_cli.engine.evaluation import evaluate
from ssl_cli.engine.evaluation.evaluate import knn_eval, linear_eval, quality
from ssl_cli.engine.run import checkpoint
from ssl_cli.errors import CheckpointError, DataError, DivergedError, SslcliError
from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.transfer import linear
from ssl_cli.transfer.knn import knn
from tests.engine.toy_run import toy_settings, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, toy_settings())
    return folder


@pytest.fixture
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "TRIAL_ITERATIONS", 3)
    monkeypatch.setattr(linear, "ITERATIONS", 10)


def last(events: Iterator[Event]) -> Any:
    *_, event = events
    assert isinstance(event, Evaluated)
    return event


def test_knn_result(run: Path) -> None:
    event = last(knn_eval(str(run), k=20, baselines=True, device="cpu"))
    assert (event.name, event.step) == ("knn", 7)
    result = event.result
    names = {"top1", "top5", "k", "temperature", "feature", "bank", "queries", "note", "baselines", "step"}
    assert names == result.keys()
    assert (result["k"], result["temperature"], result["feature"], result["bank"]) == (20, 0.1, "h", 64)
    assert 0 <= result["top1"] <= result["top5"] <= 1
    assert result["baselines"].keys() == {"pixels", "untrained"}
    (written,) = (run / "eval").glob("knn-step_00000007-*.json")
    assert json.loads(written.read_text())["result"] == result


@pytest.mark.parametrize("name", ["simclr", "moco-v2", "instdisc"])
def test_z_is_the_trained_projector_s_output(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toy_settings(images=48).model_copy(update={"method": method_settings(name)(name=name)})
    objective = write_run(tmp_path, settings, images=48)
    seen: dict[str, Tensor] = {}

    def watched(bank: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.setdefault("bank", bank)
        return knn(bank, *args, **kwargs)

    monkeypatch.setattr(evaluate, "knn", watched)
    result = last(knn_eval(str(tmp_path), feature="z", k=5, baselines=True, device="cpu")).result
    assert result["feature"] == "z"
    assert result["baselines"].keys() == {"pixels", "untrained"}
    source = open_evaluation(settings.data, 0).bank
    with torch.no_grad():
        z = objective(torch.stack([evaluation.fit(source.read(i)[None], 16, settings.augment)[0] for i in range(3)]))
    torch.testing.assert_close(seen["bank"][:3], z, rtol=1e-4, atol=1e-5)
    assert [path.name.startswith("knn-z-step") for path in (tmp_path / "eval").iterdir()] == [True]


def test_a_projector_that_is_missing_is_an_error(tmp_path: Path) -> None:
    write_run(tmp_path, toy_settings())
    state = checkpoint.load(tmp_path / "checkpoints" / "step_00000007.pt")
    state["objective"] = {key: value for key, value in state["objective"].items() if key.startswith("backbone.")}
    checkpoint.save(tmp_path / "checkpoints", state, keep=2)
    assert last(knn_eval(str(tmp_path), device="cpu")).result["feature"] == "h"
    with pytest.raises(CheckpointError, match=r"The objective in .* does not fit"):
        list(knn_eval(str(tmp_path), feature="z", device="cpu"))


def test_k_above_the_bank_is_noted(run: Path) -> None:
    result = last(knn_eval(str(run), device="cpu")).result
    assert result["k"] == 64
    assert "k is 64, not 200" in result["note"]
    assert result["baselines"] == {}


def test_linear_result(run: Path, quick_probe: None) -> None:
    event = last(linear_eval(str(run), baselines=True, device="cpu"))
    assert event.name == "linear"
    result = event.result
    assert {"top1", "top5", "protocol", "train", "test", "settings", "note", "baselines", "step"} == result.keys()
    assert result["settings"]["l2"] in result["settings"]["l2_grid"]
    assert json.dumps(result)
    assert list((run / "eval").glob("linear-*.json"))
    again = last(linear_eval(str(run), device="cpu")).result
    assert again["top1"] == result["top1"]
    assert again["settings"]["converged"] is False
    assert "the probe had not converged after 500 iterations" in again["note"]


def test_with_a_checkpoint_file_nothing_is_written(run: Path) -> None:
    before = sorted(run.rglob("*"))
    last(knn_eval(str(run / "checkpoints" / "step_00000007.pt"), device="cpu"))
    assert sorted(run.rglob("*")) == before


def test_quality_does_not_change_the_objective(tmp_path: Path) -> None:
    settings = toy_settings()
    objective = write_run(tmp_path, settings).train()
    before = fingerprint(objective)
    (event,) = quality(objective, settings, "fp32", step=3)
    assert isinstance(event, Evaluated)
    assert event.step == 3
    assert event.result["baselines"].keys() == {"pixels", "untrained"}
    assert fingerprint(objective) == before
    assert all(part.training for part in objective.modules())


def test_an_error_in_quality_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DataError("There is no such folder.", "Look again.")

    settings = toy_settings()
    objective = write_run(tmp_path, settings)
    monkeypatch.setattr(evaluate, "open_evaluation", refuse)
    (event,) = quality(objective, settings, "fp32", step=3)
    assert isinstance(event, Warned)
    assert "no such folder" in event.message


def test_classes_that_are_not_in_the_bank_are_misses(
    run: Path, monkeypatch: pytest.MonkeyPatch, quick_probe: None
) -> None:
    data = open_evaluation(toy_settings().data, 0)
    classes = (*data.bank.classes, "strange", "stranger")
    queries = subset(data.queries, torch.arange(8), torch.full((8,), len(classes) - 1), classes)
    monkeypatch.setattr(evaluate, "open_evaluation", lambda *_: Evaluation(data.bank, queries, "two sets"))
    for command in (knn_eval, linear_eval):
        result = last(command(str(run), device="cpu")).result
        assert (result["top1"], result["top5"]) == (0, 0)


def test_a_representation_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    settings = toy_settings()
    objective = write_run(tmp_path, settings)
    next(objective.backbone.parameters()).data.fill_(float("nan"))
    data = open_evaluation(settings.data, 0)
    with pytest.raises(DivergedError, match="not finite"):
        evaluate.knn_of(objective, settings, "fp32", data)


def test_a_backbone_that_changes_is_an_error(tmp_path: Path) -> None:
    settings = toy_settings()
    objective = write_run(tmp_path, settings)
    honest = objective.represent

    def moving(x: Tensor) -> Tensor:
        next(objective.backbone.parameters()).mul_(1.001)
        return honest(x)

    objective.represent = moving  # type: ignore[method-assign]
    with pytest.raises(SslcliError, match="backbone changed"):
        evaluate.linear_of(objective, settings, "fp32", open_evaluation(settings.data, 0))


def test_other_data_replace_those_of_the_run() -> None:
    settings = toy_settings(source="old", test="old-test", limit=3)
    swapped = with_data(settings, "new", None, None).data
    assert (swapped.source, swapped.test, swapped.limit, swapped.size) == ("new", None, None, 16)
    kept = with_data(settings, None, None, 5).data
    assert (kept.source, kept.test, kept.limit) == ("old", "old-test", 5)
