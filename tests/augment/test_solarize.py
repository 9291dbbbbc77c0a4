"""Solarisation against torchvision."""

import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment.solarize import Solarize, Solarized
from ssl_cli.config.augment import SolarizeSettings

from .pictures import pictures


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 128 / 255, 1.0])
def test_equals_torchvision(threshold: float, channels: int) -> None:
    """Bit for bit, also at the threshold itself."""
    x = pictures(4, 32, 32, channels).float() / 255
    on = torch.tensor([True, False, True, True])
    y = Solarize(SolarizeSettings(threshold=threshold), 32).apply(x.clone(), Solarized(on))
    assert torch.equal(y[on], tvf.solarize(x[on], threshold))
    assert torch.equal(y[~on], x[~on])
