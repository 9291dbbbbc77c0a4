"""The linear probe: the optimum of its convex problem, against scikit-learn, and the same twice."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import ssl_cli.transfer.linear
from ssl_cli.transfer.linear import PENALTIES, Fit, Probe, fit, linear_probe
from ssl_cli.transfer.tally import accuracy


def clusters(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three overlapping clusters in six dimensions, one of them constant."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    h = torch.randn(rows, 6, generator=draw) * torch.tensor([1.0, 5, 0.1, 2, 1, 0]) + 3
    h[:, :3] += 0.8 * torch.eye(3)[labels] * torch.tensor([1.0, 5, 0.1])
    return h, labels


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_agrees_with_scikit_learn(l2: float) -> None:
    h, labels = clusters(300)
    probe = Probe(h, 3)
    fit(probe, h, labels, l2)
    standard = ((h - h.mean(0)) / h.std(0, unbiased=False).clamp(min=1e-6)).double().numpy()
    oracle = LogisticRegression(C=1 / (l2 * len(h)), tol=1e-8, max_iter=1000).fit(standard, labels.numpy())
    probabilities = torch.from_numpy(oracle.predict_proba(standard)).float()
    torch.testing.assert_close(probe(h).softmax(1), probabilities, rtol=1e-3, atol=1e-4)


def test_separates_what_can_be_separated_and_repeats_itself() -> None:
    h, labels = clusters(400)
    test_h, test_labels = clusters(300, seed=1)
    first, second = (linear_probe(h, labels, classes=3, seed=5) for _ in range(2))
    assert first.l2 in PENALTIES
    assert first.held_out_top1 is not None
    scores = first.probe(test_h).detach()
    assert accuracy(scores, test_labels)[0] > 0.45
    assert torch.equal(scores, second.probe(test_h).detach())


def test_collinear_features_are_fitted_to_convergence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred iterations leave the loss far from its minimum where features are nearly the same."""
    monkeypatch.setattr(ssl_cli.transfer.linear, "PENALTIES", (1e-5,))
    draw = torch.Generator().manual_seed(0)
    factors = torch.randn(300, 3, generator=draw)
    h = factors.repeat(1, 10) + 0.02 * torch.randn(300, 30, generator=draw)
    labels = (h @ torch.randn(30, 5, generator=draw) + 3 * torch.randn(300, 5, generator=draw)).argmax(1)
    found, short = linear_probe(h, labels, classes=5), Probe(h, 5)
    assert found.converged
    assert not fit(short, h, labels, found.l2, 100)
    assert loss(found, short, h, labels) > 1.01 * loss(found, found.probe, h, labels)


def loss(found: Fit, probe: Probe, h: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        penalty = found.l2 / 2 * probe.linear.weight.square().sum()
        return torch.nn.functional.cross_entropy(probe(h), labels) + penalty


def test_too_few_iterations_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl_cli.transfer.linear, "ITERATIONS", 2)
    h, labels = clusters(300)
    assert not linear_probe(h, labels, classes=3).converged


def test_a_few_rows_are_enough() -> None:
    found = linear_probe(torch.eye(3), torch.arange(3), classes=3)
    assert found.held_out_top1 is None
    assert accuracy(found.probe(torch.eye(3)).detach(), torch.arange(3))[0] == 1.0


def test_the_penalty_is_chosen_on_whole_groups() -> None:
    """Pairs of twins with labels of no meaning: what is held out is guessed, unless its twin was fitted to."""
    draw = torch.Generator().manual_seed(0)
    h, labels = (x.repeat(2, *[1] * (x.dim() - 1)) for x in (torch.randn(60, 80, generator=draw), torch.arange(60) % 2))
    labels = labels[torch.randperm(60, generator=draw).repeat(2)]
    apart = linear_probe(h, labels, classes=2, group=torch.arange(60).repeat(2)).held_out_top1
    split = linear_probe(h, labels, classes=2).held_out_top1
    assert apart is not None
    assert split is not None
    assert apart < 0.8 < split
    few = linear_probe(h[:8], labels[:8], classes=2, group=torch.arange(8))
    assert few.held_out_top1 is None
