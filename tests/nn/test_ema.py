"""The momentum encoder: MoCo, equation 2."""

import torch
from torch import nn

from ssl_cli.nn.batchnorm import BatchNorm1d
from ssl_cli.nn.ema import momentum_copy, update_ema


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), BatchNorm1d(4)).double()


def test_starts_equal_and_wants_no_gradient() -> None:
    online = net()
    key = momentum_copy(online)
    assert all(torch.equal(a, b) for a, b in zip(key.parameters(), online.parameters(), strict=True))
    assert not any(p.requires_grad for p in key.parameters())


def test_parameters_follow_and_buffers_stay() -> None:
    online, key = net(), momentum_copy(net())
    with torch.no_grad():
        for p in online.parameters():
            p.add_(1.0)
    online.get_buffer("1.running_mean").add_(5.0)
    before = [p.clone() for p in key.parameters()]
    update_ema(key, online, 0.9)
    for old, new, target in zip(before, key.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * target)
    assert not key.get_buffer("1.running_mean").any()
