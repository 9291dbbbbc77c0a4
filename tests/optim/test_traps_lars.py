"""LARS's trap that a constant rate hides (recipes, 1c): the learning rate stands inside the momentum buffer."""

import pytest
import torch

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
