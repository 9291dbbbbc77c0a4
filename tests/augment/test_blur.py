"""Gaussian blur against torchvision, with each image its own sigma."""

import pytest
import torch
from torchvision.transforms import v2 as tv
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment.blur import Blur, Blurred
from ssl_cli.config.augment import BlurSettings

from .pictures import key, ks_distance, pictures, sides


@pytest.mark.parametrize(("size", "kernel"), [(32, 0.1), (32, 0.5), (96, 0.1), (224, 0.1), (32, "full")])
def test_equals_torchvision(size: int, kernel: float) -> None:
    n = 6
    x = pictures(n, size, size).float() / 255
    blur = Blur(BlurSettings(p=1.0, kernel=kernel), size)
    drawn = blur.draw(key(n), sides(n, size, size))
    width = 2 * blur.radius + 1
    theirs = torch.stack([tvf.gaussian_blur(x[i], [width, width], [float(drawn.sigma[i])] * 2) for i in range(n)])
    torch.testing.assert_close(blur.apply(x.clone(), drawn), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "taps"), [(224, 23), (96, 9), (64, 7), (32, 3), (8, 3)])
def test_the_kernel_is_a_tenth_of_the_side_made_odd(size: int, taps: int) -> None:
    """Trap: 23 taps at 224 pixels, and not 23 at 32."""
    assert 2 * Blur(BlurSettings(), size).radius + 1 == taps


def test_full_kernel_is_three_sigmas_a_side() -> None:
    assert Blur(BlurSettings(kernel="full", sigma=(0.1, 2.0)), 32).radius == 6


def test_a_kernel_wider_than_the_image_is_cut() -> None:
    blur = Blur(BlurSettings(p=1.0, kernel="full", sigma=(9.0, 9.0)), 4)
    assert blur.radius == 3
    taps = blur.taps(torch.tensor([9.0]))
    torch.testing.assert_close(taps.weight.sum(2), torch.ones(1, 4))


def test_sigma_is_drawn_per_image_and_view() -> None:
    """Trap: SimCLR's code draws one sigma for a whole batch."""
    blur = Blur(BlurSettings(), 32)
    first, second = (blur.draw(key(8000, view), sides(8000, 32, 32)) for view in (0, 1))
    assert len(set(first.sigma.tolist())) > 7900
    assert abs(torch.corrcoef(torch.stack([first.sigma, second.sigma]))[0, 1].item()) < 0.04
    torch.manual_seed(0)
    sampler = tv.GaussianBlur(3, (0.1, 2.0))
    theirs = torch.tensor([sampler.make_params([])["sigma"][0] for _ in range(3000)])
    assert ks_distance(first.sigma, theirs) < 1.95
    assert abs(first.on.double().mean().item() - 0.5) < 0.02


def test_images_that_drew_nothing_are_not_touched() -> None:
    x = pictures(4, 32, 32).float() / 255
    on = torch.tensor([True, False, True, False])
    y = Blur(BlurSettings(), 32).apply(x.clone(), Blurred(on, torch.full((4,), 1.5)))
    assert torch.equal(y[~on], x[~on])
    assert (y[on] != x[on]).any()
