"""Fine-tuning and distillation against plain loops: SimCLR v2, section 2; the official code's first head layer."""

import pytest
import torch
from torch import Tensor, nn

from ssl_cli.config.methods import FineTuneSettings
from ssl_cli.losses.cross_entropy import cross_entropy, soft_cross_entropy
from ssl_cli.objective import Batch
from ssl_cli.transfer.finetune import FineTune
from tests.oracle import paper
from tests.oracle.agree import agree_with_slope

ROWS, FEATURES, CLASSES = 7, 4, 3


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("labels", [[0, 2, 1, 1, 0, 2, 2], [0, -1, 1, -1, -1, 2, 2], [-1] * 7])
def test_cross_entropy_is_that_of_the_labelled_rows(labels: list[int]) -> None:
    agree_with_slope(
        "cross-entropy",
        numbers(ROWS, CLASSES, seed=0),
        lambda z: paper.cross_entropy(z, labels),
        lambda z: cross_entropy(z, torch.tensor(labels)),
    )


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("rows", [1, 5])
def test_soft_cross_entropy_equals_the_paper(temperature: float, rows: int) -> None:
    teacher = numbers(rows, CLASSES, seed=1)
    agree_with_slope(
        "soft cross-entropy",
        numbers(rows, CLASSES, seed=2),
        lambda z: paper.soft_cross_entropy(z, teacher.tolist(), temperature),
        lambda z: soft_cross_entropy(z, teacher, temperature),
    )


def test_soft_cross_entropy_is_least_at_the_teacher() -> None:
    teacher = numbers(4, CLASSES, seed=3)
    z = teacher.clone().requires_grad_()
    soft_cross_entropy(z, teacher, 0.5).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert z.grad.abs().max() < 1e-12


@pytest.mark.parametrize("layer", [0, 1])
def test_fine_tuning_equals_the_paper_from_h_and_from_the_first_layer(layer: int) -> None:
    cfg = FineTuneSettings(head_layers=3, head_hidden=5, head_batchnorm=True, from_layer=layer)
    objective = FineTune(nn.Identity(), FEATURES, cfg, CLASSES).double().train()
    with torch.no_grad():
        for seed, parameter in enumerate(objective.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=10 + seed))
    head, classifier = list(objective.projector), objective.classifier
    assert len(head) == 3 * layer
    labels = torch.arange(ROWS) % CLASSES
    batch = Batch([], labels, torch.arange(ROWS))
    weight, bias = classifier.weight.tolist(), classifier.bias.tolist()

    def oracle(h: list[list[complex]]) -> complex:
        rows: paper.Rows = h
        if layer:
            dense, norm = head[0], head[1]
            assert isinstance(dense, nn.Linear)
            assert isinstance(norm, nn.BatchNorm1d)
            affine = norm.weight.tolist(), norm.bias.tolist()
            rows = paper.head_layer(h, dense.weight.tolist(), *affine, float(norm.eps))
        return paper.cross_entropy(paper.linear(rows, weight, bias), labels.tolist())

    agree_with_slope(
        f"fine-tuning from layer {layer}",
        numbers(ROWS, FEATURES, seed=4),
        oracle,
        lambda h: objective.loss(objective(h), None, batch),
    )
