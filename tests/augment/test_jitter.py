"""Colour jitter against torchvision: each step and all orders given the same factors, and the law of the factors."""

import pytest
import torch
from torchvision.transforms import v2 as tv

from ssl_cli.augment.jitter import BRIGHTNESS, HUE, ORDERS, Jitter, Jittered, turn_hue
from ssl_cli.config.augment import JitterSettings

from .pictures import key, ks_distance, pictures, sides
from .reference import JITTER_STEPS, jittered

STRONG = JitterSettings(p=1.0, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)


@pytest.mark.parametrize("size", [32, 96])
def test_every_order_equals_torchvision(size: int) -> None:
    n = 48
    x = pictures(n, size, size).float() / 255
    jitter = Jitter(STRONG, size)
    drawn = jitter.draw(key(n), sides(n, size, size))._replace(order=ORDERS.repeat(2, 1))
    ours = jitter.apply(x.clone(), drawn)
    theirs = torch.stack([jittered(x[i], drawn.order[i], drawn.factor[i]) for i in range(n)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("step", "factor"),
    [(step, factor) for step in range(3) for factor in (0.0, 0.3, 1.0, 1.8)]
    + [(HUE, turn) for turn in (-0.5, -0.2, 0.0, 0.1, 0.5)],
)
def test_one_step_equals_torchvision(step: int, factor: float) -> None:
    x = pictures(3, 32, 32).float() / 255
    factors = torch.ones(3, 4)
    factors[:, HUE] = 0
    factors[:, step] = factor
    drawn = Jittered(torch.ones(3, dtype=torch.bool), ORDERS[:3], factors)
    ours = Jitter(STRONG, 32).apply(x.clone(), drawn)
    torch.testing.assert_close(ours, JITTER_STEPS[step](x, factor), rtol=0, atol=2e-6)


def test_hue_of_pure_and_gray_colours() -> None:
    """A third of a turn takes red to green; gray stays."""
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0.5, 0.5, 0.5], [0, 0, 0]]).T[None]
    turned = turn_hue(colours, torch.tensor([1 / 3]))
    expected = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [0.5, 0.5, 0.5], [0, 0, 0]]).T[None]
    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(turn_hue(turned, torch.tensor([-1 / 3])), colours, rtol=0, atol=1e-6)


def test_values_stay_between_black_and_white() -> None:
    x = pictures(200, 8, 8).float() / 255
    jitter = Jitter(JitterSettings(p=1.0, brightness=2, contrast=2, saturation=2, hue=0.5), 8)
    y = jitter.apply(x, jitter.draw(key(200), sides(200, 8, 8)))
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1


@pytest.mark.parametrize("channels", [1, 4])
def test_other_than_three_channels_get_brightness_and_contrast(channels: int) -> None:
    x = pictures(24, 16, 16, channels).float() / 255
    jitter = Jitter(STRONG, 16)
    drawn = jitter.draw(key(24), sides(24, 16, 16))._replace(order=ORDERS)
    ours = jitter.apply(x.clone(), drawn)
    for i in range(24):
        y = x[i]
        for step in [s for s in ORDERS[i].tolist() if s <= 1]:
            anchor = torch.zeros(()) if step == BRIGHTNESS else y.mean()
            y = (anchor + float(drawn.factor[i, step]) * (y - anchor)).clamp(0, 1)
        torch.testing.assert_close(ours[i], y, rtol=0, atol=1e-5)


def test_images_that_drew_nothing_are_not_touched() -> None:
    x = pictures(64, 16, 16).float() / 255
    jitter = Jitter(JitterSettings(p=0.5), 16)
    drawn = jitter.draw(key(64), sides(64, 16, 16))
    y = jitter.apply(x.clone(), drawn)
    assert torch.equal(y[~drawn.on], x[~drawn.on])
    assert (y[drawn.on] != x[drawn.on]).flatten(1).any(1).all()


def test_factors_follow_torchvisions_law() -> None:
    n, m = 8000, 3000
    drawn = Jitter(JitterSettings(brightness=0.8, contrast=1.2, saturation=0.4, hue=0.2), 32).draw(
        key(n), sides(n, 1, 1)
    )
    torch.manual_seed(0)
    sampler = tv.ColorJitter(0.8, 1.2, 0.4, 0.2)
    theirs = [sampler.make_params([]) for _ in range(m)]
    for j, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        assert ks_distance(drawn.factor[:, j], torch.tensor([t[f"{name}_factor"] for t in theirs])) < 1.95, name


def test_orders_and_coins_are_even_and_independent() -> None:
    n = 24000
    drawn = Jitter(JitterSettings(p=0.8), 32).draw(key(n), sides(n, 1, 1))
    codes = (drawn.order * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = codes.bincount()
    counts = counts[counts > 0]
    assert len(counts) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 49.7  # 99.9 % at 23 degrees of freedom
    assert abs(drawn.on.double().mean().item() - 0.8) < 3.3 * (0.16 / n) ** 0.5
    together = torch.corrcoef(torch.cat([drawn.on[:, None].double(), drawn.order[:, :1].double(), drawn.factor], 1).T)
    assert (together - torch.eye(6)).abs().max() < 4 / n**0.5


def test_strength_scales_all_four() -> None:
    """Trap: SimCLR's (.8, .8, .8, .2) times s; s = 1/2 on CIFAR."""
    settings = JitterSettings(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, strength=0.5)
    factor = Jitter(settings, 32).draw(key(5000), sides(5000, 1, 1)).factor
    torch.testing.assert_close(factor.min(0).values, torch.tensor([0.6, 0.6, 0.6, -0.1]), rtol=0, atol=2e-3)
    torch.testing.assert_close(factor.max(0).values, torch.tensor([1.4, 1.4, 1.4, 0.1]), rtol=0, atol=2e-3)
