"""LARS's trap that a constant rate hides (recipes, 1c): the learning rate stands inside the momentum buffer."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_cli.optim.build import set_rate
from ssl_cli.optim.lars import LARS


def test_a_rate_that_changes_leaves_the_momentum_it_gave() -> None:
    """From w = 10, the gradient 1 at first and nothing later: the ratio is trust * 10, then the buffer coasts."""
    param = torch.nn.Parameter(torch.tensor([[10.0]], dtype=torch.float64))
    optimiser = LARS([param], lr=1.0, momentum=0.5, trust=0.01)
    for rate, gradient in ((1.0, 1.0), (0.1, 0.0), (0.01, 0.0)):
        set_rate(optimiser, rate)
        param.grad = torch.full_like(param, gradient)
        optimiser.step()
    assert param.item() == pytest.approx(10 - 0.1 * (1 + 0.5 + 0.25))


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_step_calls_as_many_operations_whatever_the_number_of_matrices() -> None:
    """On a card each one is a kernel at least, and takes longer to launch than to run."""
    counts = []
    for matrices in (2, 54):
        params = [torch.nn.Parameter(torch.rand(2, 3)) for _ in range(matrices)]
        optimiser = LARS(params, lr=0.1, weight_decay=1e-4)
        for param in params:
            param.grad = torch.rand_like(param)
        optimiser.step()  # makes the velocities
        with Calls() as calls:  # type: ignore[no-untyped-call]
            optimiser.step()
        counts.append(calls.count)
    assert counts[0] == counts[1]
