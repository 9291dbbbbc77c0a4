"""The deterministic transform against torchvision's resize and centre crop."""

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment.evaluation import fit
from ssl_cli.config.augment import AugmentSettings, CropSettings

from .pictures import pictures

BICUBIC = AugmentSettings(crop=CropSettings(interpolation="bicubic"))


@pytest.mark.parametrize(
    ("height", "width", "size", "short"),
    [
        (48, 64, 32, 32),
        (33, 32, 32, 32),
        (20, 28, 32, 32),
        (96, 97, 64, 64),
        (375, 500, 224, 256),
        (341, 256, 224, 256),
    ],
)
def test_equals_torchvision(height: int, width: int, size: int, short: int) -> None:
    images = pictures(3, height, width)
    resized = tvf.resize(images.float() / 255, [short], InterpolationMode.BICUBIC, antialias=True)
    theirs = tvf.center_crop(resized, [size, size]).clamp(0, 1)
    ours = fit(images, size, BICUBIC)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_images_of_the_right_size_are_taken_as_they_are() -> None:
    images = pictures(3, 96, 96)
    assert torch.equal(fit(images, 96, BICUBIC), images / 255)


def test_a_ragged_list_is_fitted_image_by_image() -> None:
    images = [*pictures(2, 40, 32), *pictures(1, 32, 32), *pictures(1, 50, 80)]
    ours = fit(images, 32, BICUBIC)
    for i, image in enumerate(images):
        torch.testing.assert_close(ours[i], fit(image[None], 32, BICUBIC)[0], rtol=0, atol=1e-6)


def test_normalised_if_the_recipe_says_so() -> None:
    """Trap: SimCLR has no mean and standard deviation."""
    images = pictures(3, 32, 32)
    settings = AugmentSettings(order=("crop", "normalize"))
    mean, std = list(settings.normalize.mean), list(settings.normalize.std)
    torch.testing.assert_close(fit(images, 32, settings), tvf.normalize(images / 255, mean, std), rtol=0, atol=1e-6)
    assert fit(images, 32, BICUBIC).max() <= 1
