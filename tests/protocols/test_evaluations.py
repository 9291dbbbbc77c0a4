"""kNN and the linear probe on a run: the pinned result, its file in the run folder, and errors in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_cli import checkpoint
from ssl_cli.augment import evaluation
from ssl_cli.config.images import with_data
from ssl_cli.config.methods import method_settings
from ssl_cli.data.sources import Evaluation, open_evaluation
from ssl_cli.data.split import subset
from ssl_cli.engine.evaluation import evaluate
from ssl_cli.errors import CheckpointError, DivergedError, SslcliError
from ssl_cli.protocols import knn as knn_module
from ssl_cli.protocols import linear as linear_module
from ssl_cli.protocols.knn import knn_eval
from ssl_cli.protocols.linear import linear_eval, linear_of
from ssl_cli.transfer import linear
from ssl_cli.transfer.knn import score
from tests.engine.toy_run import evaluated, toy_settings, write_run


@pytest.fixture
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "TRIAL_ITERATIONS", 3)
    monkeypatch.setattr(linear, "ITERATIONS", 10)


def test_knn_result(run: Path) -> None:
    event = evaluated(knn_eval(str(run), ks=(20,), baselines=True, device="cpu"))
    assert (event.name, event.step) == ("knn", 7)
    result = event.result
    names = {"top1", "top5", "k", "temperature", "feature", "bank", "queries", "note", "baselines", "step", "advice"}
    names |= {"started", "scores", "per_class", "confusion", "protocol", "protocol_source"}
    assert names == result.keys()
    assert (result["k"], result["temperature"], result["feature"], result["bank"]) == (20, 0.1, "h", 64)
    assert 0 <= result["top1"] <= result["top5"] <= 1
    assert result["baselines"].keys() == {"pixels", "untrained"}
    (written,) = (run / "eval").glob("knn-h-k20-T0.1-baselines-step_00000007-shapes-train-*.json")
    for file in (written, run / "eval" / "knn.json"):
        assert json.loads(file.read_text())["result"] == result


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, True),
        ({"ks": (20, 5), "temperatures": (0.07, 1.0)}, True),
        ({"ks": (5, 20)}, False),
        ({"ks": ()}, False),
        ({"temperatures": (0.1,)}, False),
        ({"feature": "z"}, False),
    ],
)
def test_a_protocol_is_named_where_its_settings_are_taken(run: Path, given: dict[str, Any], named: bool) -> None:
    asked = {"ks": (20,), "temperatures": (0.07,), "feature": "h", **given}
    result = evaluated(knn_eval(str(run), protocol="dino", device="cpu", **asked)).result
    assert (result["protocol"], bool(result["protocol_source"])) == (("dino", True) if named else (None, False))


@pytest.mark.usefixtures("quick_probe")
def test_a_result_on_other_images_does_not_replace_one_on_the_run_s_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, toy_settings())
    for number in range(12):
        file = tmp_path / "other" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (20 * number, 0, 99)).save(file)
    newest = run / "eval" / "knn.json"

    def bank(**asked: Any) -> int:
        evaluated(knn_eval(str(run), ks=(1,), device="cpu", **asked))
        return int(json.loads(newest.read_text())["result"]["bank"])

    others = {"data": str(tmp_path / "other")}
    assert bank(**others) < 12  # there is none of its own yet
    assert bank(**others, limit=2) == 2
    evaluated(linear_eval(str(run), str(tmp_path / "other"), device="cpu"))
    evaluated(linear_eval(str(run), labels="2-per-class", device="cpu"))
    assert json.loads((run / "eval" / "linear.json").read_text())["result"]["labels"] == "2-per-class"
    assert bank() == 64
    assert bank(**others) == 64
    assert bank(data="shapes", limit=1) == 64
    assert bank(data="shapes") == 64
    assert len(list((run / "eval").glob("knn-h-*.json"))) == 4


def test_results_on_folders_of_the_same_names_are_other_files(run: Path, tmp_path: Path) -> None:
    places = [tmp_path / root / part for root in "ab" for part in ("one", "two")]
    for place in places:
        for number in range(8):
            file = place / "xy"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (20 * number, 0, 99)).save(file)
    for data in (places[:2], places[2:], places[:2]):
        evaluated(knn_eval(str(run), tuple(map(str, data)), ks=(1,), device="cpu"))
        evaluated(knn_eval(str(run), tuple(map(str, data)), without_labels=True, device="cpu"))
    for name in ("knn-h-k1-", "label-free-h-"):
        assert len(list((run / "eval").glob(f"{name}*-one-two-*.json"))) == 2


@pytest.mark.parametrize("name", ["simclr", "moco-v2", "instdisc"])
def test_z_is_the_trained_projector_s_output(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toy_settings(images=48).model_copy(update={"method": method_settings(name)(name=name)})
    objective = write_run(tmp_path, settings, images=48)
    seen: dict[str, Tensor] = {}

    def watched(bank: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.setdefault("bank", bank)
        return score(bank, *args, **kwargs)

    monkeypatch.setattr(evaluate, "score", watched)
    result = evaluated(knn_eval(str(tmp_path), feature="z", ks=(5,), baselines=True, device="cpu")).result
    assert result["feature"] == "z"
    assert result["baselines"].keys() == {"pixels", "untrained"}
    source = open_evaluation(settings.data, 0).bank
    with torch.no_grad():
        z = objective(torch.stack([evaluation.fit(source.read(i)[None], 16, settings.augment)[0] for i in range(3)]))
    torch.testing.assert_close(seen["bank"][:3], z, rtol=1e-4, atol=1e-5)
    assert len(list((tmp_path / "eval").glob("knn-z-k5-*.json"))) == 1


def test_a_projector_that_is_missing_is_an_error(tmp_path: Path) -> None:
    write_run(tmp_path, toy_settings())
    state = checkpoint.load(tmp_path / "checkpoints" / "step_00000007.pt")
    state["objective"] = {key: value for key, value in state["objective"].items() if key.startswith("backbone.")}
    checkpoint.save(tmp_path / "checkpoints", state, keep=2)
    assert evaluated(knn_eval(str(tmp_path), device="cpu")).result["feature"] == "h"
    with pytest.raises(CheckpointError, match=r"The objective in .* does not fit"):
        list(knn_eval(str(tmp_path), feature="z", device="cpu"))


@pytest.mark.parametrize(
    ("k", "used", "note"),
    [
        (None, 5, "k is 5: the smallest class has no more images in the bank"),
        (3, 3, ""),
        (
            20,
            20,
            "k 20 is more than the 5 images that the smallest class has in the bank: others outvote it; -k 5 suits",
        ),
        (200, 64, "k is 64, not 200: the bank has no more images"),
    ],
)
def test_k_follows_the_smallest_class_or_is_as_given(run: Path, k: int | None, used: int, note: str) -> None:
    result = evaluated(knn_eval(str(run), ks=() if k is None else (k,), device="cpu")).result
    assert result["k"] == used
    assert note in result["note"]
    assert bool(note) is ("k " in result["note"])
    assert (result["baselines"], result["advice"]) == ({}, None)


def test_results_of_other_settings_are_other_files(tmp_path: Path) -> None:
    write_run(tmp_path, toy_settings())
    folder = tmp_path / "eval"
    asked: list[dict[str, Any]] = [
        {},
        {"ks": (3,)},
        {"temperatures": (0.5,)},
        {"feature": "z"},
        {"limit": 4},
        {"ks": (3, 4, 5)},
        {"ks": (3, 4, 5, 6, 7)},
        {"ks": (3, 4, 5, 6, 8)},
        {"ks": (3,)},
    ]
    for settings in asked:
        newest = evaluated(knn_eval(str(tmp_path), device="cpu", **settings)).result
        is_newest = json.loads((folder / "knn.json").read_text())["result"] == newest
        assert is_newest is ("limit" not in settings)  # of the run's own images, all of them
    assert len(list(folder.glob("knn-*.json"))) == len(asked) - 1  # the last asks for the same again
    assert len(list(folder.glob("knn-*k3+4+5-*.json"))) == 1


def below(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an evaluation find the encoder below raw pixels."""
    for module in (knn_module, linear_module):
        honest = module.scored

        def scored(*args: Any, honest: Any = honest, **kwargs: Any) -> Any:
            *before, result = args[:5]
            result |= {"top1": 0.3, "baselines": {"pixels": 0.6, "untrained": 0.2}}
            return honest(*before, result, *args[5:], **kwargs)

        monkeypatch.setattr(module, "scored", scored)


@pytest.mark.parametrize("command", [knn_eval, linear_eval])
def test_an_encoder_below_a_baseline_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_probe: None, command: Any
) -> None:
    write_run(tmp_path, toy_settings())
    below(tmp_path, monkeypatch)
    advice = evaluated(command(str(tmp_path), baselines=True, device="cpu")).result["advice"]
    assert advice["worse"]
    assert advice["message"].startswith("Worse than raw pixels (60.0 %)")
    assert advice["next"] == ["sslcli pretrain --gentle"]


def test_a_schedule_that_was_cut_short_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, toy_settings())
    state = checkpoint.load(tmp_path / "checkpoints" / "step_00000007.pt")
    state["resolved"] = {**state["resolved"], "images": 512}  # two steps an epoch, 200 epochs
    checkpoint.save(tmp_path / "checkpoints", state, keep=2)
    below(tmp_path, monkeypatch)
    advice = evaluated(knn_eval(str(tmp_path), baselines=True, device="cpu")).result["advice"]
    assert "the schedule was cut short at step 7 of 400" in advice["message"]
    assert advice["next"][0] == f"sslcli pretrain --resume --out {tmp_path}"


def test_linear_result(run: Path, quick_probe: None) -> None:
    event = evaluated(linear_eval(str(run), baselines=True, device="cpu"))
    assert event.name == "linear"
    result = event.result
    assert {
        "top1",
        "top5",
        "protocol",
        "train",
        "test",
        "settings",
        "note",
        "baselines",
        "step",
        "advice",
        "started",
        "labels",
        "parameters",
        "per_class",
        "confusion",
    } == result.keys()
    assert result["settings"]["l2"] in result["settings"]["l2_grid"]
    assert json.dumps(result)
    assert list((run / "eval").glob("linear-*.json"))
    again = evaluated(linear_eval(str(run), device="cpu")).result
    assert again["top1"] == result["top1"]
    assert again["settings"]["converged"] is False
    assert "the probe had not converged after 500 iterations" in again["note"]


def test_with_a_checkpoint_file_nothing_is_written(run: Path) -> None:
    before = sorted(run.rglob("*"))
    evaluated(knn_eval(str(run / "checkpoints" / "step_00000007.pt"), device="cpu"))
    assert sorted(run.rglob("*")) == before


def test_classes_that_are_not_in_the_bank_are_misses(
    run: Path, monkeypatch: pytest.MonkeyPatch, quick_probe: None
) -> None:
    data = open_evaluation(toy_settings().data, 0)
    classes = (*data.bank.classes, "strange", "stranger")
    queries = subset(data.queries, torch.arange(8), torch.full((8,), len(classes) - 1), classes)
    for module in (knn_module, linear_module):
        monkeypatch.setattr(module, "open_evaluation", lambda *_, **__: Evaluation(data.bank, queries, "two sets"))
    for command in (knn_eval, linear_eval):
        result = evaluated(command(str(run), device="cpu")).result
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
        linear_of(objective, settings, "fp32", open_evaluation(settings.data, 0))


def test_other_data_replace_those_of_the_run() -> None:
    settings = toy_settings(source="old", test="old-test", limit=3)
    swapped = with_data(settings, "new", None, None).data
    assert (swapped.source, swapped.test, swapped.limit, swapped.size) == ("new", None, None, 16)
    kept = with_data(settings, None, None, 5).data
    assert (kept.source, kept.test, kept.limit) == ("old", "old-test", 5)
