"""Gradient caching's traps (recipes, 36): the second pass is the first again, and the loss sees all rows at once."""

import torch
from torch import Tensor, nn

from ssl_cli.engine.gradient import MicroBatched, compute_gradient
from ssl_cli.engine.rows import Shard
from ssl_cli.nn.batchnorm import BatchNorm1d, Moments
from ssl_cli.nn.bn_groups import bn_groups
from ssl_cli.nn.precision import autocast

ROWS, MICRO = 14, 6


def test_both_passes_are_equal_to_the_last_bit_and_the_loss_sees_every_row() -> None:
    """With BatchNorm groups, dropout and bfloat16, which a second pass in another precision would not repeat."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 4)).train()
    x, passed, seen = torch.randn(ROWS, 8), list[Tensor](), list[int]()

    def call(rows: Tensor) -> Tensor:
        passed.append(net(x[rows]))
        return passed[-1].float()

    def loss(z: Tensor) -> Tensor:
        seen.append(len(z))
        return z.square().mean()

    groups = bn_groups(ROWS, 1, 4, 0, 0, 1)
    assert len(groups.sizes) == 4
    rows = MicroBatched(net, call, Shard((groups,)), MICRO, autocast(torch.device("cpu"), "bf16"), 0)
    compute_gradient(rows, loss, Moments(), kept_graphs=0)
    assert seen == [ROWS]
    first, second = passed[: len(passed) // 2], passed[len(passed) // 2 :]
    assert len(first) == len(second) > 1
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype == torch.bfloat16
        assert torch.equal(a.detach(), b.detach())
    assert [out.requires_grad for out in passed] == [False] * len(first) + [True] * len(second)
