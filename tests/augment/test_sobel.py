"""Sobel filtering against plain loops."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment.sobel import Edged, Sobel, edges
from ssl_cli.config.augment import SobelSettings

from .pictures import pictures

KERNEL = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))


def looped(gray: Tensor) -> Tensor:
    """Gradient magnitude of `(H,W)`, pixel by pixel."""
    h, w = gray.shape
    values = gray.double().tolist()
    out = torch.zeros(h, w)
    for y in range(h):
        for x in range(w):
            across = down = 0.0
            for dy in range(3):
                for dx in range(3):
                    value = values[min(max(y + dy - 1, 0), h - 1)][min(max(x + dx - 1, 0), w - 1)]
                    across += KERNEL[dy][dx] * value
                    down += KERNEL[dx][dy] * value
            out[y, x] = min(1.0, math.hypot(across, down))
    return out


@pytest.mark.parametrize(("size", "channels"), [(1, 3), (2, 3), (17, 3), (32, 3), (16, 1), (16, 4)])
def test_equals_plain_loops(size: int, channels: int) -> None:
    x = pictures(5, 32, 32, channels)[:, :, :size, :size].float() / 255
    on = torch.tensor([True, False, True, False, False])
    y = Sobel(SobelSettings(), size).apply(x.clone(), Edged(on))
    assert torch.equal(y[~on], x[~on])
    for i in on.nonzero().flatten().tolist():
        gray = tvf.rgb_to_grayscale(x[i])[0] if channels == 3 else x[i].mean(0)
        for channel in y[i]:
            torch.testing.assert_close(channel, looped(gray), rtol=0, atol=1e-5)


def test_a_step_is_an_edge_and_a_plain_surface_is_none() -> None:
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 0.2
    y = edges(x)[0, 0]
    expected = torch.zeros(8, 8)
    expected[:, 3:5] = 4 * 0.2 * 0.9999  # luma's weights sum to 0.9999
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
