"""Gaussian noise: its law, its independence, and that it is no more than what was drawn."""

import pytest
import torch
from torch import Tensor

from ssl_cli.augment.noise import Noise
from ssl_cli.config.augment import NoiseSettings

from .pictures import key, ks_distance, pictures, sides


def grid(n: int) -> Tensor:
    """Standard normal quantiles."""
    quantiles: Tensor = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return quantiles


@pytest.fixture(scope="module")
def sample() -> Tensor:
    """Numbers `(64, 3 * 64 * 64)` of 64 images."""
    noise = Noise(NoiseSettings(), 64)
    return noise.normal(noise.draw(key(64), sides(64, 64, 64)).word, 3 * 64 * 64)


def test_pixels_follow_the_normal_law(sample: Tensor) -> None:
    n = sample.numel()
    assert ks_distance(sample.flatten(), grid(n)) < 1.95
    for lane in range(4):  # four numbers come from one hash
        assert ks_distance(sample[:, lane::4].flatten(), grid(n // 4)) < 1.95
    z = sample.double()
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # spread: variance of z^power
        assert abs((z**power).mean().item() - moment) < 4 * (spread / n) ** 0.5 + 1e-3


def test_pixels_are_independent(sample: Tensor) -> None:
    """Of their neighbours, of other channels and rows, and of other images; the squares too."""
    for z in (sample.double(), sample.double() ** 2):
        z = (z - z.mean()) / z.std()
        for step in (1, 2, 3, 4, 5, 64, 64 * 64, 2 * 64 * 64):
            pairs = z[:, step:] * z[:, :-step]
            assert abs(pairs.mean().item()) < 4 / pairs.numel() ** 0.5
        between = torch.corrcoef(z) - torch.eye(64)
        assert between.abs().max() < 5 / z.shape[1] ** 0.5


def test_sigma_and_noise_are_drawn_per_image_and_view() -> None:
    n = 8000
    noise = Noise(NoiseSettings(p=0.3, sigma=(0.05, 0.2)), 32)
    first, second = (noise.draw(key(n, view), sides(n, 32, 32)) for view in (0, 1))
    assert ks_distance(first.sigma, torch.linspace(0.05, 0.2, n)) < 1.95
    assert abs(torch.corrcoef(torch.stack([first.sigma, second.sigma]))[0, 1].item()) < 0.05
    assert abs(first.on.double().mean().item() - 0.3) < 3.3 * (0.21 / n) ** 0.5
    assert len(set(first.word.tolist()) | set(second.word.tolist())) == 2 * n


def test_noise_of_this_sigma_is_added_and_clamped() -> None:
    x = pictures(6, 32, 32).float() / 255
    noise = Noise(NoiseSettings(p=0.6, sigma=(0.1, 0.4)), 32)
    drawn = noise.draw(key(6), sides(6, 32, 32))
    y = noise.apply(x.clone(), drawn)
    z = noise.normal(drawn.word, 3 * 32 * 32).view_as(x)
    theirs = torch.where(drawn.on.view(-1, 1, 1, 1), (x + drawn.sigma.view(-1, 1, 1, 1) * z).clamp(0, 1), x)
    torch.testing.assert_close(y, theirs, rtol=0, atol=1e-6)
    assert (float(y.min()), float(y.max())) == (0, 1)
    gray = torch.full((6, 3, 32, 32), 0.5)
    spread = (noise.apply(gray.clone(), drawn._replace(sigma=torch.full((6,), 0.05))) - gray).flatten(1).std(1)
    torch.testing.assert_close(spread, 0.05 * drawn.on, rtol=0.05, atol=0)


def test_the_channels_of_an_image_differ() -> None:
    noise = Noise(NoiseSettings(p=1.0, sigma=(0.1, 0.1)), 16)
    y = noise.apply(torch.full((2, 3, 16, 16), 0.5), noise.draw(key(2), sides(2, 16, 16)))
    assert (y[:, 0] != y[:, 1]).float().mean() > 0.99
    assert (y[0] != y[1]).float().mean() > 0.99


def test_only_images_that_drew_it_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    normal = Noise.normal

    def counted(noise: Noise, word: Tensor, count: int) -> Tensor:
        hashed.append(len(word))
        return normal(noise, word, count)

    monkeypatch.setattr(Noise, "normal", counted)
    noise = Noise(NoiseSettings(), 8)
    drawn = noise.draw(key(50), sides(50, 8, 8))
    noise.apply(torch.rand(50, 3, 8, 8), drawn)
    assert hashed == [int(drawn.on.sum())]
