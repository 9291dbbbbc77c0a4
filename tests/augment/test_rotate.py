"""Quarter turns against torchvision, and how often each is drawn."""

import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment.rotate import Rotate, Turned
from ssl_cli.config.augment import RotateSettings

from .pictures import key, pictures, sides


@pytest.mark.parametrize("size", [1, 31, 32, 96])
def test_equals_torchvision(size: int) -> None:
    x = pictures(8, 96, 96)[:, :, :size, :size].float() / 255
    turns = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    y = Rotate(RotateSettings(), size).apply(x.clone(), Turned(turns))
    for i, k in enumerate(turns.tolist()):
        assert torch.equal(y[i], tvf.rotate(x[i], 90.0 * k))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turned_all_alike_they_lie_in_memory_as_before(turns: int) -> None:
    """Trap: a lone image, or a batch that drew one angle, would come back as a view with other strides."""
    x = pictures(3, 16, 16).float() / 255
    y = Rotate(RotateSettings(), 16).apply(x.clone(), Turned(torch.full((3,), turns)))
    assert y.is_contiguous()
    assert torch.equal(y, x.rot90(turns, (2, 3)))


@pytest.mark.parametrize("p", [0.4, 1.0])
def test_every_angle_is_as_likely(p: float) -> None:
    n = 20000
    counts = Rotate(RotateSettings(p=p), 32).draw(key(n), sides(n, 40, 50)).turns.bincount(minlength=4)
    expected = n * torch.tensor([1 - 3 * p / 4, p / 4, p / 4, p / 4])
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 99.9 % at 3 degrees of freedom
