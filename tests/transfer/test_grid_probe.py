"""The batched grid: each classifier is what torch's own optimiser makes of it alone; and the choice among them."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli.transfer import grid_probe as module
from ssl_cli.transfer.grid_probe import grid_probe, train_grid
from tests.transfer.test_linear import clusters


def alone(x: Tensor, labels: Tensor, rate: float, l2: float, epochs: int, batch: int, seed: int) -> nn.Linear:
    """One classifier by torch.optim.SGD, step by step."""
    net = nn.Linear(x.shape[1], 3, dtype=x.dtype)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    groups = [{"params": [net.weight], "weight_decay": l2}, {"params": [net.bias], "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)
    step, steps, draw = 0, epochs * math.ceil(len(x) / batch), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x), generator=draw).split(batch):  # type: ignore[no-untyped-call]
            for group in optimiser.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.zero_grad()
            F.cross_entropy(net(x[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            step += 1
    return net


def test_each_classifier_is_torch_s_sgd_alone() -> None:
    h, labels = clusters(50)
    x, grid = h.double(), torch.tensor([[0.01, 0.0], [0.1, 0.01], [0.003, 0.1]], dtype=torch.float64)
    how: dict[str, Any] = {"epochs": 3, "batch": 16, "seed": 4}
    weights, biases = train_grid(x, labels, classes=3, rates=grid[:, 0], penalties=grid[:, 1], **how)
    for (rate, l2), weight, bias in zip(grid.tolist(), weights, biases, strict=True):
        net = alone(x, labels, rate, l2, **how)
        torch.testing.assert_close(weight.T, net.weight.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(bias, net.bias.detach(), rtol=1e-9, atol=1e-12)


def test_it_learns_repeats_itself_and_chooses_from_the_grid() -> None:
    h, labels = clusters(300)
    views = [h + 0.1 * torch.randn(h.shape, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    first, second = (grid_probe([h, *views], labels, classes=3, seed=5) for _ in range(2))
    test_h, test_labels = clusters(300, seed=1)
    assert torch.equal(first.scores(test_h), second.scores(test_h))
    assert (first.scores(test_h).argmax(1) == test_labels).float().mean() > 0.45
    assert any(math.isclose(first.rate, rate, rel_tol=1e-5) for rate in module.RATES)
    assert any(math.isclose(first.l2, l2, rel_tol=1e-5) for l2 in module.PENALTIES)


def test_held_out_images_are_in_no_pass_and_classified_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out rows of augmented views, which are wrong here, neither train nor count."""
    monkeypatch.setattr(module, "EPOCHS", 4)
    seen: list[Tensor] = []

    def watched(x: Tensor, labels: Tensor, **how: Any) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return train_grid(x, labels, **how)

    monkeypatch.setattr(module, "train_grid", watched)
    h, labels = clusters(100)
    held = torch.randperm(100, generator=torch.Generator().manual_seed(0))[:10]
    marked = h.clone()
    marked[held] = 1e4
    grid_probe([h, marked], labels, classes=3, seed=0)
    assert [len(x) for x in seen] == [180, 200]  # the last one is the final classifier, on all
    assert seen[0].max() < 0.5 * seen[1].max()


def test_a_grid_too_large_for_memory_is_trained_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    h, labels = clusters(60)
    whole = grid_probe([h], labels, classes=3)
    monkeypatch.setattr(module, "MOST_WEIGHTS", 7 * 3 * 6)
    parts = grid_probe([h], labels, classes=3)
    assert (parts.rate, parts.l2, parts.held_out_top1) == (whole.rate, whole.l2, whole.held_out_top1)


def test_what_diverges_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RATES", (1e30, 0.1))
    h, labels = clusters(100)
    assert grid_probe([h], labels, classes=3).rate == pytest.approx(0.1)


def test_a_few_rows_are_enough() -> None:
    found = grid_probe([torch.eye(3)], torch.arange(3), classes=3)
    assert found.held_out_top1 is None
    assert found.scores(torch.eye(3)).argmax(1).tolist() == [0, 1, 2]
