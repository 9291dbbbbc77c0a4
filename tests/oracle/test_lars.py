"""LARS as SimCLR's code has it, and what else optimises, against plain floats."""

import pytest
import torch
from torch import Tensor, nn

from ssl_cli.config.tree import OptimSettings
from ssl_cli.optim.build import build_optimiser, set_rate
from ssl_cli.optim.lars import LARS
from tests.oracle import paper
from tests.oracle.agree import agree

RATES = [0.3, 0.3, 0.2, 0.05, 0.5]


def walk(optimiser: torch.optim.Optimizer, param: nn.Parameter, grads: Tensor) -> Tensor:
    """Where five steps at changing rates lead, flat."""
    for rate, gradient in zip(RATES, grads, strict=True):
        set_rate(optimiser, rate)
        param.grad = gradient.clone()
        optimiser.step()
    return param.detach().flatten()


def problem(start: float = 1.0) -> tuple[nn.Parameter, Tensor, list[float], list[list[float]]]:
    """A matrix and five gradients; both again as plain numbers."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(3, 4, dtype=torch.float64, generator=generator) * start
    grads = torch.randn(5, 3, 4, dtype=torch.float64, generator=generator)
    return nn.Parameter(first), grads, first.flatten().tolist(), grads.flatten(1).tolist()


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("start", [1.0, 0.0])
def test_five_steps(adapt: bool, decay: float, momentum: float, start: float) -> None:
    param, grads, w, g = problem(start)
    optimiser = LARS([param], lr=1.0, momentum=momentum, weight_decay=decay, trust=0.01, adapt=adapt)
    agree("LARS", walk(optimiser, param, grads), paper.lars(w, g, RATES, momentum, decay, 0.01, adapt))


@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
def test_five_steps_of_sgd(decay: float, momentum: float, nesterov: bool) -> None:
    nesterov = nesterov and momentum > 0
    param, grads, w, g = problem()
    optim = OptimSettings(name="sgd", momentum=momentum, weight_decay=decay, nesterov=nesterov)
    optimiser = build_optimiser(nn.ParameterList([param]), optim, 1.0)
    agree("SGD", walk(optimiser, param, grads), paper.sgd(w, g, RATES, momentum, decay, nesterov))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.6)])
def test_five_steps_of_adamw(decay: float, betas: tuple[float, float]) -> None:
    param, grads, w, g = problem()
    optim = OptimSettings(name="adamw", weight_decay=decay, betas=betas)
    optimiser = build_optimiser(nn.ParameterList([param]), optim, 1.0)
    agree("AdamW", walk(optimiser, param, grads), paper.adamw(w, g, RATES, betas, decay))


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("adapt_all", [True, False])
def test_vectors_are_excluded_by_dimension_and_independently(decay_all: bool, adapt_all: bool) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).double()
    optim = OptimSettings(
        name="lars", weight_decay=0.1, decay_norm_bias=decay_all, adapt_norm_bias=adapt_all, trust=0.01
    )
    optimiser = build_optimiser(net, optim, 0.5)
    before = {name: p.detach().flatten().tolist() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.full_like(p, 0.25)
    optimiser.step()
    for name, p in net.named_parameters():
        decay, adapt = (0.1 if p.ndim > 1 or decay_all else 0.0), p.ndim > 1 or adapt_all
        expected = paper.lars(before[name], [[0.25] * p.numel()], [0.5], 0.9, decay, 0.01, adapt)
        agree("LARS", p.detach().flatten(), expected)


def test_no_decay_does_not_mean_no_adaptation() -> None:
    """A fine-tuning recipe has weight decay 0; LARS must not turn into SGD by that (trap 20)."""
    param = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimiser = build_optimiser(nn.ParameterList([param]), OptimSettings(name="lars", weight_decay=0.0), 1.0)
    param.grad = torch.full_like(param, 3.0)
    optimiser.step()
    assert float(param.detach()[0, 0]) == pytest.approx(1 - 0.001 * (2 / 6) * 3)
