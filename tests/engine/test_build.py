"""Library backbones through the whole tool: trained, resumed, measured, exported, planned, in either layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn
from torchvision import models

from ssl_cli.config.tree import ModelSettings, Settings
from ssl_cli.data.shapes import Shapes
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.engine.plan import measure
from ssl_cli.engine.plan.dry_run import dry_run
from ssl_cli.engine.plan.plan import make_plan
from ssl_cli.errors import UsageError
from ssl_cli.events import Planned, Stepped, Stopped
from ssl_cli.exports.onnx import export_run
from ssl_cli.nn.activations import count_activations, count_rows
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.nn.batchnorm import BatchNorm2d
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.nn.precision import MEMORY_FORMATS
from ssl_cli.protocols.knn import knn_eval
from tests.engine.test_pretrain import only, run, settings
from tests.engine.toy_run import evaluated
from tests.nn.test_library import swin, vit
from tests.selection import slow

CPU = torch.device("cpu")
SMALL = "torchvision:mobilenet_v3_small"
TRANSFORMER = "torchvision:swin_t"


@pytest.fixture
def small_swin(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRANSFORMER is one of a few thousand weights, with dropout and dropped paths."""
    monkeypatch.setattr(models, "get_model", lambda name, **_: swin())


def with_library_backbone(out: Path, name: str = SMALL, **sections: dict[str, Any]) -> Settings:
    given: dict[str, dict[str, Any]] = {
        "model": {"backbone": name, "width": 1.0},
        "data": {"size": 32, "images": 32},
        **sections,
    }
    return settings(out, **given)


def test_our_own_and_library_backbones() -> None:
    ours, width = build_backbone(ModelSettings(backbone="resnet18", width=0.25), 32)
    assert (type(ours).__module__, width) == ("ssl_cli.nn.resnet", 128)
    theirs, width = build_backbone(ModelSettings(backbone="torchvision:resnet18"), 32)
    assert (type(theirs).__module__, width) == ("torchvision.models.resnet", 512)
    with pytest.raises(UsageError, match="no network 'resnet1'"):
        build_backbone(ModelSettings(backbone="torchvision:resnet1"), 32)


def test_an_objective_is_a_function_of_the_seed_and_has_our_batchnorm(tmp_path: Path) -> None:
    first, again = (build_objective(with_library_backbone(tmp_path), CPU) for _ in range(2))
    other = build_objective(with_library_backbone(tmp_path, run={"seed": 1}), CPU)
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)
    norms = [layer for layer in first.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 34
    assert all(isinstance(layer, BatchNorm2d) for layer in norms)
    assert first.backbone.get_parameter("features.0.0.weight").is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("small_swin")
@pytest.mark.parametrize(
    ("method", "name"),
    [
        pytest.param("simclr", TRANSFORMER, marks=pytest.mark.slow),
        pytest.param("moco-v2", TRANSFORMER, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_resumes_exactly(tmp_path: Path, method: str, name: str) -> None:
    """In micro-batches, with BatchNorm, dropout and dropped paths: four steps at once, or one and then three."""
    sections: dict[str, Any] = {
        "method": {"name": method},
        "model": {"backbone": name, "width": 1.0, "bn_group": 8},
        "hardware": {"micro_batch": 8, "mode": "cached"},
    }
    whole = run(with_library_backbone(tmp_path / "whole", **sections))
    assert "cached" in str(only(whole, Planned)[0].choices)
    assert len({event.loss for event in only(whole, Stepped)}) == 4
    brief = {"out": str(tmp_path / "parts"), "batch": 16, "log_every": 1, "evaluate": False, "max_time": 1e-9}
    assert only(run(with_library_backbone(tmp_path / "parts", **sections, run=brief)), Stopped)
    run(with_library_backbone(tmp_path / "parts", **sections), resume=True)
    ends = [open_run(str(tmp_path / name), "cpu") for name in ("whole", "parts")]
    assert ends[0].step == ends[1].step == 4
    assert fingerprint(ends[0].objective.backbone) == fingerprint(ends[1].objective.backbone)


@pytest.mark.slow
@pytest.mark.usefixtures("small_swin")
def test_a_run_is_measured(tmp_path: Path) -> None:
    out, small = tmp_path / "run", {"data": {"size": 32, "images": 16}, "schedule": {"epochs": 1}}
    (step,) = only(run(with_library_backbone(out, TRANSFORMER, **small)), Stepped)
    assert step.loss > 0
    assert 0 <= evaluated(knn_eval(str(out), device="cpu")).result["top1"] <= 1
    trained = open_run(str(out), "cpu").objective.backbone
    assert fingerprint(trained) != fingerprint(build_objective(with_library_backbone(out, TRANSFORMER), CPU).backbone)


@pytest.mark.slow
@pytest.mark.parametrize("make", [swin, vit])
def test_a_run_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module]) -> None:
    monkeypatch.setattr(models, "get_model", lambda name, **_: make())
    out, file = tmp_path / "run", tmp_path / "encoder.onnx"
    run(with_library_backbone(out, TRANSFORMER, data={"size": 16, "images": 16}, schedule={"epochs": 1}))
    assert evaluated(export_run(str(out), file)).result["max_error"] < 1e-4
    x = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        wanted = open_run(str(out), "cpu").objective.eval().represent(x)
    found = onnxruntime.InferenceSession(file).run(["h"], {"image": x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "precision"),
    [
        (swin, "bf16"),
        *slow((vit, "fp32"), (swin, "fp32"), (vit, "bf16")),
    ],
)
def test_the_memory_of_a_row_is_the_same_without_numbers_and_for_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], nn.Module], precision: str
) -> None:
    monkeypatch.setattr(models, "get_model", lambda name, **_: make())
    objective = build_objective(
        with_library_backbone(tmp_path, TRANSFORMER, data={"size": 16, "images": 32}), CPU
    ).train()
    x = torch.rand(64, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    counted, real = count_activations(objective, 16, precision), count_rows(objective, x, precision)
    assert counted.saved == pytest.approx(real.saved, rel=0.15)
    assert counted.peak == pytest.approx(real.peak, rel=0.15)


def test_arithmetic_is_probed_at_the_one_size_that_a_network_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SIDE", 8)
    monkeypatch.setattr(models, "get_model", lambda name, **_: vit())
    chosen = with_library_backbone(
        tmp_path, TRANSFORMER, data={"size": 16, "images": 32}, hardware={"precision": "auto"}
    )
    objective = build_objective(chosen, CPU).train()
    found = measure.fastest(objective, 16, CPU, ["fp32", "bf16"], ["channels_last"])
    assert found.precision in {"fp32", "bf16"}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["auto", "channels_last", "contiguous"])
def test_a_plan_in_any_layout(tmp_path: Path, layout: str) -> None:
    chosen = with_library_backbone(tmp_path, hardware={"memory_format": layout, "precision": "auto"})
    objective = build_objective(chosen, CPU)
    found = make_plan(chosen, objective, 32, "shapes", Shapes(16, 32, 0), tmp_path)
    kept = found.resolved.memory_format
    assert layout in {"auto", kept}
    assert objective.backbone.get_parameter("features.0.0.weight").is_contiguous(memory_format=MEMORY_FORMATS[kept])
    assert found.expected["parameters"] == sum(p.numel() for p in objective.parameters())


@pytest.mark.slow
def test_a_dry_run(tmp_path: Path) -> None:
    planned, *_ = dry_run(with_library_backbone(tmp_path / "run"))
    assert isinstance(planned, Planned)
    assert planned.expected["peak_memory"] > planned.expected["parameters"] * 4 > 1_500_000 * 4
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="of 40 pixels"):
        list(dry_run(with_library_backbone(tmp_path / "run", "torchvision:vit_b_16", data={"size": 40, "images": 32})))
