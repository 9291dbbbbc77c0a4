"""Traps of evaluation and loading (recipes, 32, 33, 37, 39): which feature, by which transform, from which weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_cli import checkpoint
from ssl_cli.config.tree import ModelSettings
from ssl_cli.data.sources import open_evaluation
from ssl_cli.engine.evaluation import evaluate
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.errors import CheckpointError
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.protocols.linear import linear_of
from ssl_cli.transfer import linear
from tests.engine.toy_run import toy_settings, write_run


def test_h_is_measured_in_evaluation_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default not z, from which the loss removes information; and no BatchNorm statistics move."""
    settings = toy_settings()
    objective = write_run(tmp_path, settings).train()
    honest, widths, modes = objective.represent, set[int](), set[bool]()

    def represent(x: torch.Tensor) -> torch.Tensor:
        modes.update(part.training for part in objective.modules())
        h = honest(x)
        widths.add(h.shape[1])
        return h

    monkeypatch.setattr(objective, "represent", represent)
    monkeypatch.setattr(linear, "TRIAL_ITERATIONS", 3)
    monkeypatch.setattr(linear, "ITERATIONS", 3)
    data = open_evaluation(settings.data, 0)
    assert evaluate.knn_of(objective, settings, "fp32", data)["feature"] == "h"
    assert linear_of(objective, settings, "fp32", data)["top1"] >= 0
    assert widths == {32}
    assert modes == {False}


@pytest.mark.parametrize("name", ["conv1.weight", "layer4.1.bn2.running_var"])
def test_missing_weights_are_an_error(tmp_path: Path, name: str) -> None:
    """Otherwise they would stay random without any warning."""
    write_run(tmp_path, toy_settings())
    (path,) = (tmp_path / "checkpoints").glob("*.pt")
    state = checkpoint.load(path)
    del state["objective"][f"backbone.{name}"]
    checkpoint.save(tmp_path / "checkpoints", state, keep=2)
    with pytest.raises(CheckpointError, match="does not fit"):
        open_run(str(tmp_path), "cpu")


@pytest.mark.parametrize(("size", "stride", "pool"), [(32, (1, 1), nn.Identity), (65, (2, 2), nn.MaxPool2d)])
def test_small_images_get_the_cifar_stem(size: int, stride: tuple[int, int], pool: type) -> None:
    net, _ = build_backbone(ModelSettings(backbone="resnet18", width=0.0625), size)
    assert net.get_submodule("conv1").stride == stride
    assert isinstance(net.get_submodule("maxpool"), pool)
