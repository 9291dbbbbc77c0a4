"""Flip, gray and normalise against torchvision."""

import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment.flip import Flip, Flipped
from ssl_cli.augment.gray import Gray, Grayed
from ssl_cli.augment.normalize import Normalize
from ssl_cli.config.augment import FlipSettings, GraySettings, NormalizeSettings

from .pictures import key, pictures, sides

ON = torch.tensor([True, False, True, False, False])


def test_flip_equals_torchvision() -> None:
    x = pictures(5, 16, 16).float() / 255
    y = Flip(FlipSettings(), 16).apply(x.clone(), Flipped(ON))
    assert torch.equal(y[ON], tvf.horizontal_flip(x[ON]))
    assert torch.equal(y[~ON], x[~ON])


def test_gray_equals_torchvision() -> None:
    x = pictures(5, 16, 16).float() / 255
    y = Gray(GraySettings(), 16).apply(x.clone(), Grayed(ON))
    torch.testing.assert_close(y[ON], tvf.rgb_to_grayscale(x[ON], num_output_channels=3), rtol=0, atol=1e-6)
    assert torch.equal(y[~ON], x[~ON])


def test_gray_leaves_other_channels_alone() -> None:
    x = pictures(5, 16, 16, channels=1).float() / 255
    assert torch.equal(Gray(GraySettings(), 16).apply(x.clone(), Grayed(ON)), x)


def test_normalize_equals_torchvision_and_undoes() -> None:
    x = pictures(5, 16, 16).float() / 255
    settings = NormalizeSettings()
    op = Normalize(settings, 16)
    y = op.apply(x.clone(), op.draw(key(5), sides(5, 16, 16)))
    torch.testing.assert_close(y, tvf.normalize(x, list(settings.mean), list(settings.std)), rtol=0, atol=1e-6)
    torch.testing.assert_close(op.undo(y), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_probabilities(p: float) -> None:
    n = 20000
    for op in (Flip(FlipSettings(p=p), 32), Gray(GraySettings(p=p), 32)):
        share = op.draw(key(n), sides(n, 32, 32)).on.double().mean().item()
        assert abs(share - p) <= 3.3 * (p * (1 - p) / n) ** 0.5
