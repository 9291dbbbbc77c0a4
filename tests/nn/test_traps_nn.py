"""Traps of the parts of a network: momentum near one, BatchNorm groups in channels_last, heads with and without it."""

import pytest
import torch
from torch import nn

from ssl_cli.nn.batchnorm import BatchNorm1d, BatchNorm2d, grouped
from ssl_cli.nn.ema import momentum_copy, update_ema
from ssl_cli.nn.heads import projector


def test_small_steps_of_the_momentum_encoder_are_not_rounded_away() -> None:
    """Trap 12: at m = 0.999 half precision would stand still for ever."""
    online = nn.Linear(1, 1, bias=False)
    nn.init.ones_(online.weight)
    key = momentum_copy(online)
    nn.init.constant_(online.weight, 1.25)
    for _ in range(100):
        update_ema(key, online, 0.999)
    assert key.weight.dtype == torch.float32
    assert key.weight.item() == pytest.approx(1.25 - 0.25 * 0.999**100, abs=1e-5)


@pytest.mark.parametrize("sizes", [(4, 4, 4), (5, 4, 3)])
def test_groups_are_rows_that_stand_together_in_any_memory_format(sizes: tuple[int, ...]) -> None:
    """Trap 2: SplitBN by a view of the storage fails in channels_last, and its groups are every n-th row."""
    layer = BatchNorm2d(6).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 6, 4, 5, dtype=torch.float64, generator=generator) + torch.arange(12.0)[:, None, None, None]
    last = x.contiguous(memory_format=torch.channels_last)
    with grouped(layer, sizes):
        ours, there = layer(x), layer(last)
    torch.testing.assert_close(there, ours)
    assert there.is_contiguous(memory_format=torch.channels_last)
    for part in torch.split(ours, list(sizes)):
        torch.testing.assert_close(part.mean((0, 2, 3)), torch.zeros(6, dtype=torch.float64))


def test_evaluation_takes_running_statistics_and_no_groups() -> None:
    layer = BatchNorm2d(3).eval()
    x = torch.randn(4, 3, 2, 2) + 5
    with grouped(layer, (2, 2)):
        torch.testing.assert_close(layer(x), x, rtol=1e-4, atol=1e-4)


def kinds(head: nn.Module) -> list[str]:
    return [type(part).__name__ for part in head.children()]


def test_heads_as_in_the_papers_and_as_in_simclr_s_code() -> None:
    """Trap 26: the code has BatchNorm after every layer, no bias beside it, and no shift at the end."""
    plain, code = projector(8, 2, None, 4), projector(8, 3, 6, 4, batchnorm=True)
    assert kinds(plain) == ["Linear", "ReLU", "Linear"]
    assert {name for name, _ in plain.named_parameters()} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert kinds(code) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    linear = [part for part in code.children() if isinstance(part, nn.Linear)]
    norms = [part for part in code.children() if isinstance(part, BatchNorm1d)]
    assert all(part.bias is None for part in linear)
    assert [part.bias is not None for part in norms] == [True, True, False]
    assert all(part.weight is not None for part in norms)


@pytest.mark.parametrize("batchnorm", [False, True])
def test_heads_lose_no_digit_under_autocast(batchnorm: bool) -> None:
    """Trap 15: a similarity is divided by the temperature, and so is its rounding; z being float32 says too little."""
    torch.manual_seed(0)
    head, h = projector(16, 2, None, 8, batchnorm), torch.randn(6, 16)
    plain = head(h)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(h), plain)
        assert head(h.bfloat16()).dtype == torch.float32
