"""Fine-tuning: from which layer, what trains, and what the optimiser does with the classifier."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssl_cli import checkpoint, disk
from ssl_cli.config.methods import FineTuneSettings
from ssl_cli.config.tree import OptimSettings
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.nn.heads import projector
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Batch
from ssl_cli.optim.build import build_optimiser
from ssl_cli.transfer.finetune import FineTune, first_layers
from tests.engine.toy_run import toy_settings

CLASSES = 3


def make(features: int = 6, **more: object) -> FineTune:
    cfg = FineTuneSettings.model_validate({"head_layers": 3, "head_batchnorm": True, "from_layer": 1, **more})
    return FineTune(nn.Linear(4, features), features, cfg, CLASSES)


def test_layer_1_is_behind_its_batchnorm_and_its_relu() -> None:
    objective = make()
    assert [type(part).__name__ for part in objective.projector] == ["Linear", "BatchNorm1d", "ReLU"]
    read: list[Tensor] = []
    objective.classifier.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    objective(torch.randn(32, 4))
    assert (read[0] >= 0).all()
    assert (read[0] == 0).any()


@pytest.mark.parametrize("batchnorm", [False, True])
def test_layers_are_counted_by_their_relu(batchnorm: bool) -> None:
    head = projector(6, 3, None, 8, batchnorm)
    assert [len(first_layers(head, layers)) for layers in (0, 1, 2)] == [0, 2 + batchnorm, 4 + 2 * batchnorm]
    with pytest.raises(UsageError, match="has 2 hidden layers, not 3"):
        first_layers(head, 3)


def test_the_classifier_starts_at_zero_so_the_loss_is_that_of_chance() -> None:
    objective = make()
    batch = Batch([], torch.arange(8) % CLASSES, torch.arange(8))
    loss = float(objective.loss(objective(torch.randn(8, 4)), None, batch).detach())
    assert loss == pytest.approx(math.log(CLASSES)) == pytest.approx(objective.chance(8))


@pytest.mark.parametrize(("trains", "moves"), [("head", True), ("backbone", False)])
def test_the_kept_layers_train_by_default_and_their_statistics_move_anyway(trains: str, moves: bool) -> None:
    objective = make(trains=trains)
    assert all(p.requires_grad == moves for p in objective.projector.parameters())
    assert objective.projector[1].training
    grouped = build_optimiser(objective, OptimSettings(name="sgd"), 0.1, objective.plain_parameters).param_groups
    found = {id(p) for group in grouped for p in group["params"]}
    assert ({id(p) for p in objective.projector.parameters()} <= found) == moves
    assert {id(p) for p in objective.plain_parameters} == {id(p) for p in grouped[2]["params"]}


def test_lars_moves_a_classifier_of_zeros_by_the_whole_rate_and_never_decays_it() -> None:
    objective = make(from_layer=0)
    optim = OptimSettings(name="lars", momentum=0.0, weight_decay=0.5)
    optimiser = build_optimiser(objective, optim, 0.25, objective.plain_parameters)
    generator = torch.Generator().manual_seed(0)
    x, batch = torch.randn(8, 4, generator=generator), Batch([], torch.arange(8) % CLASSES, torch.arange(8))
    for _ in range(2):
        before = [p.detach().clone() for p in objective.plain_parameters]
        optimiser.zero_grad()
        objective.loss(objective(x), None, batch).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        for old, parameter in zip(before, objective.plain_parameters, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.detach(), old - 0.25 * parameter.grad)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.5, 0.5, 0.0]
    assert [group["adapt"] for group in optimiser.param_groups] == [True, False, False]


@pytest.fixture(scope="module")
def pretrained(run: Path) -> Path:
    return checkpoint.locate(str(run))[0]


def started(file: Path, **more: object) -> FineTune:
    method = toy_settings().method.model_dump()
    head = {name: value for name, value in method.items() if name.startswith("head_")}
    words = {**head, "checkpoint": str(file), "sha256": disk.sha256(file), "from_layer": 1, **more}
    objective = FineTune(resnet18(0.0625, "cifar"), 32, FineTuneSettings.model_validate(words), CLASSES)
    assert objective.load_start() != objective.cfg.scratch
    return objective


def test_backbone_and_layer_come_with_their_statistics(pretrained: Path) -> None:
    weights = checkpoint.load(pretrained)["objective"]
    found = started(pretrained).state_dict()
    assert {name for name in found if name not in weights} == {"classifier.weight", "classifier.bias"}
    assert any("running_mean" in name for name in found)
    for name in weights.keys() & found.keys():
        assert torch.equal(found[name], weights[name]), name
    assert "projector.2.weight" in weights.keys() - found.keys()  # the rest of the head is dropped


def test_from_scratch_nothing_is_loaded(pretrained: Path) -> None:
    weights = checkpoint.load(pretrained)["objective"]
    torch.manual_seed(0)
    found = started(pretrained, scratch=True).state_dict()
    assert not torch.equal(found["backbone.conv1.weight"], weights["backbone.conv1.weight"])
    assert started(pretrained, scratch=True, sha256="0" * 64)  # nor read


def test_another_file_and_another_network_are_refused(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not as it was"):
        started(pretrained, sha256="0" * 64)
    with pytest.raises(CheckpointError, match="is gone"):
        FineTune(nn.Identity(), 4, FineTuneSettings(checkpoint=str(tmp_path / "no.pt")), CLASSES).load_start()
    with pytest.raises(CheckpointError, match=r"projector .* is another than its settings say"):
        started(pretrained, head_batchnorm=True)
