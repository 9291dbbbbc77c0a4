"""Distillation: the teacher stays as it is, whatever happens to the student around it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssl_cli import checkpoint, disk
from ssl_cli.config.methods import DistillSettings
from ssl_cli.config.tree import Settings
from ssl_cli.errors import CheckpointError
from ssl_cli.losses.cross_entropy import cross_entropy, soft_cross_entropy
from ssl_cli.nn.batchnorm import Moments, grouped
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Batch
from ssl_cli.transfer.distill import Distill
from tests.engine.toy_run import toy_settings, write_run

CLASSES = ("ring", "star", "disk")


def settings() -> Settings:
    tables = toy_settings().model_dump()
    return Settings.model_validate({**tables, "method": {"name": "finetune"}, "data": {"size": 16, "classes": CLASSES}})


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    write_run(folder, settings())
    return checkpoint.locate(str(folder))[0]


def student(file: Path, **more: float) -> Distill:
    cfg = DistillSettings(checkpoint=str(file), sha256=disk.sha256(file), **more)
    objective = Distill(resnet18(0.0625, "cifar"), 32, cfg, len(CLASSES))
    objective.prepare(8, 0)
    return objective.train()


def images() -> Tensor:
    return torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


BATCH = Batch([], torch.tensor([0, -1, 1, -1, 2, -1, 0, -1]), torch.arange(8))


def test_the_teacher_is_in_evaluation_mode_and_nothing_of_it_moves(taught: Path) -> None:
    objective = student(taught)
    before = {name: value.clone() for name, value in objective.teacher.state_dict().items()}
    targets = objective.targets([images()], BATCH)
    alone = torch.cat([objective.teacher(image[None]) for image in images()])
    assert targets is not None
    assert not targets.requires_grad
    torch.testing.assert_close(targets, alone)  # as with running statistics: no row depends on the others
    objective.loss(objective(images()), targets, BATCH).backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(value, before[name]) for name, value in objective.teacher.state_dict().items())
    assert not any(module.training for module in objective.teacher.modules())


def test_the_student_s_batchnorm_is_in_training_mode(taught: Path) -> None:
    objective, moments = student(taught), Moments()
    before = objective.backbone.get_buffer("bn1.running_mean").clone()
    with grouped(objective, [8], moments):
        objective(images())
    moments.pool()
    moments.commit()
    assert not torch.equal(objective.backbone.get_buffer("bn1.running_mean"), before)


def test_a_checkpoint_is_the_student_s_alone_and_moving_it_moves_the_teacher(taught: Path) -> None:
    objective = student(taught).double()
    assert not any("teacher" in name or "frozen" in name for name in objective.state_dict())
    assert all(p.dtype == torch.float64 for p in objective.teacher.parameters())
    assert len(list(objective.parameters())) == len(list(objective.backbone.parameters())) + 2


@pytest.mark.parametrize("alpha", [1.0, 0.25, 0.0])
def test_alpha_weighs_the_teacher_and_the_labels_have_the_rest(taught: Path, alpha: float) -> None:
    objective = student(taught, alpha=alpha, temperature=2.0)
    z, targets = objective(images()).detach(), objective.targets([images()], BATCH)
    assert targets is not None
    wanted = alpha * soft_cross_entropy(z, targets, 2.0) + (1 - alpha) * cross_entropy(z, BATCH.label)
    torch.testing.assert_close(objective.loss(z, targets, BATCH), wanted)


def test_a_changed_teacher_is_refused(taught: Path) -> None:
    cfg = DistillSettings(checkpoint=str(taught), sha256="0" * 64)
    with pytest.raises(CheckpointError, match="is not as it was"):
        Distill(resnet18(0.0625, "cifar"), 32, cfg, len(CLASSES)).prepare(8, 0)


def test_the_classifier_is_adapted_and_decayed_as_the_rest(taught: Path) -> None:
    assert student(taught).plain_parameters == ()
    assert 0 < float(student(taught).classifier.weight.detach().std()) < 0.05
