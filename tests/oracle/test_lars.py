"""LARS as SimCLR's code has it, in plain floats."""

import math

import pytest
import torch

from ssl_cli.config.tree import OptimSettings
from ssl_cli.optim.build import build_optimiser
from ssl_cli.optim.lars import LARS


def oracle(
    w: list[float], grads: list[list[float]], lr: float, momentum: float, decay: float, trust: float, adapt: bool
) -> list[float]:
    velocity = [0.0] * len(w)
    for gradient in grads:
        g = [a + decay * b for a, b in zip(gradient, w, strict=True)]
        weight, length = math.sqrt(sum(x * x for x in w)), math.sqrt(sum(x * x for x in g))
        ratio = trust * weight / length if adapt and weight > 0 and length > 0 else 1.0
        velocity = [momentum * v + lr * ratio * x for v, x in zip(velocity, g, strict=True)]
        w = [x - v for x, v in zip(w, velocity, strict=True)]
    return w


@pytest.mark.parametrize("adapt", [True, False])
@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("start", ["random", "zero"])
def test_five_steps(adapt: bool, decay: float, start: str) -> None:
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(3, 4, dtype=torch.float64, generator=generator) * (start == "random")
    grads = torch.randn(5, 3, 4, dtype=torch.float64, generator=generator)
    param = torch.nn.Parameter(first.clone())
    optimiser = LARS([param], lr=0.3, momentum=0.9, weight_decay=decay, trust=0.01, adapt=adapt)
    for gradient in grads:
        param.grad = gradient.clone()
        optimiser.step()
    expected = oracle(first.flatten().tolist(), grads.flatten(1).tolist(), 0.3, 0.9, decay, 0.01, adapt)
    torch.testing.assert_close(param.detach().flatten(), torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize("adapt_all", [True, False])
def test_vectors_are_excluded_by_dimension_and_independently(decay_all: bool, adapt_all: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)).double()
    optim = OptimSettings(
        name="lars", weight_decay=0.1, decay_norm_bias=decay_all, adapt_norm_bias=adapt_all, trust=0.01
    )
    optimiser = build_optimiser(net, optim, 0.5)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.full_like(p, 0.25)
    optimiser.step()
    for name, p in net.named_parameters():
        vector = p.ndim == 1
        expected = oracle(
            before[name].flatten().tolist(), [[0.25] * p.numel()], 0.5, 0.9,
            0.1 if not vector or decay_all else 0.0, 0.01, adapt_all or not vector,
        )  # fmt: skip
        torch.testing.assert_close(
            p.detach().flatten(), torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0
        )


def test_no_decay_does_not_mean_no_adaptation() -> None:
    """A fine-tuning recipe has weight decay 0; LARS must not turn into SGD by that (trap 20)."""
    param = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimiser = build_optimiser(torch.nn.ParameterList([param]), OptimSettings(name="lars", weight_decay=0.0), 1.0)
    param.grad = torch.full_like(param, 3.0)
    optimiser.step()
    assert float(param.detach()[0, 0]) == pytest.approx(1 - 0.001 * (2 / 6) * 3)
