"""Random resized crop against torchvision: the resize given the same boxes, and the law of the boxes."""

from typing import Literal

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as tv
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment import crop as crops
from ssl_cli.augment.crop import Box, Crop
from ssl_cli.config.augment import CropSettings
from ssl_cli.objective import PackedImages

from .pictures import key, ks_distance, pictures, sides


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(32, 32, 32), (64, 48, 32), (96, 96, 96), (96, 130, 64), (256, 341, 224), (40, 33, 96)],
)
def test_equals_torchvision(height: int, width: int, size: int, interpolation: Literal["bilinear", "bicubic"]) -> None:
    n = 12
    images = pictures(n, height, width)
    crop = Crop(CropSettings(interpolation=interpolation), size)
    box = crop.draw(key(n), sides(n, height, width))
    ours = crop.apply(images, box)
    for i in range(n):
        corner = [int(side[i]) for side in box]
        theirs = tvf.resized_crop(
            images[i].float() / 255, *corner, [size, size], InterpolationMode(interpolation), antialias=True
        )
        torch.testing.assert_close(ours[i], theirs.clamp(0, 1), rtol=0, atol=2e-5)


def test_stacked_images_and_a_ragged_list_agree() -> None:
    images = pictures(6, 48, 40)
    crop = Crop(CropSettings(), 32)
    box = crop.draw(key(6), sides(6, 48, 40))
    torch.testing.assert_close(crop.apply(images, box), crop.apply(list(images), box), rtol=0, atol=1e-6)


@pytest.mark.parametrize("taps", [1, 3000, crops.PACKED_TAPS])
@pytest.mark.parametrize(("interpolation", "channels"), [("bilinear", 1), ("bicubic", 3)])
def test_packed_images_are_cropped_as_one_by_one(
    interpolation: Literal["bilinear", "bicubic"], channels: int, taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of mixed sizes on a GPU, here on the CPU: two views, in groups of boxes of about one width."""
    monkeypatch.setattr(crops, "PACKED_TAPS", taps)
    forms = [(48, 40), (9, 7), (30, 200), (65, 64), (1, 1), (31, 12)]
    images = [pictures(1, *form, channels, seed=form[0])[0] for form in forms]
    images[2] = images[2].permute(1, 2, 0).contiguous().permute(2, 0, 1)  # as decoded files lie in memory
    packed, settings = PackedImages.pack(images), CropSettings(interpolation=interpolation)
    crop = Crop(settings, 16)
    drawn = [crop.draw(key(len(forms), view), torch.tensor(forms)) for view in range(2)]
    box = Box(*(torch.cat(fields) for fields in zip(*drawn, strict=True)))
    torch.testing.assert_close(crop.apply(packed, box), crop.apply(images, box), rtol=0, atol=1e-6)


def test_packed_images_are_the_images() -> None:
    images = [pictures(1, *form, seed=form[0])[0] for form in ((4, 5), (7, 2), (3, 3), (1, 6))]
    packed = PackedImages.pack(images)
    assert packed.pixels.shape == (4 * 5 + 7 * 2 + 3 * 3 + 6, 3)
    assert all(torch.equal(a, b) for a, b in zip(packed, images, strict=True))
    for rows in (slice(1, 3), torch.tensor([3, 0, 0, 2]), torch.tensor([2])):
        chosen = [images[k] for k in torch.arange(4)[rows].tolist()]
        assert all(torch.equal(a, b) for a, b in zip(packed[rows], chosen, strict=True))
    assert len(packed[1:3].pixels) == 7 * 2 + 3 * 3
    with pytest.raises(IndexError):
        packed[4]


def test_no_pixel_outside_the_box_is_seen() -> None:
    """Trap: interpolating the whole image lets the box's neighbours bleed in at its edges."""
    images = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    images[:, :, 8:16, 8:16] = 0
    one = torch.tensor([8])
    assert Crop(CropSettings(interpolation="bicubic"), 32).apply(images, Box(one, one, one, one)).abs().max() == 0


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(32, 32, (0.08, 1.0)), (256, 341, (0.2, 1.0)), (300, 60, (0.08, 1.0)), (60, 300, (0.5, 1.0))],
)
def test_boxes_follow_torchvisions_law(height: int, width: int, scale: tuple[float, float]) -> None:
    """Long images exercise the centred fallback."""
    n, m = 8000, 3000
    box = Crop(CropSettings(scale=scale), 32).draw(key(n), sides(n, height, width))
    torch.manual_seed(0)
    sampler = tv.RandomResizedCrop(32, scale=scale)
    image = torch.empty(3, height, width)
    theirs = [sampler.make_params([image]) for _ in range(m)]
    for name in Box._fields:
        distance = ks_distance(getattr(box, name), torch.tensor([float(t[name]) for t in theirs]))
        assert distance < 1.95, name


def test_boxes_lie_inside() -> None:
    for height, width in [(1, 1), (1, 50), (50, 1), (7, 9), (500, 375)]:
        box = Crop(CropSettings(), 32).draw(key(500), sides(500, height, width))
        assert int(box.top.min()) >= 0
        assert int(box.left.min()) >= 0
        assert int(box.height.min()) >= 1
        assert int(box.width.min()) >= 1
        assert int((box.top + box.height).max()) <= height
        assert int((box.left + box.width).max()) <= width


def test_the_lower_bound_of_the_area_is_the_recipes() -> None:
    """Trap: .08 in SimCLR, .2 in MoCo and InstDisc."""
    for low in (0.08, 0.2):
        box = Crop(CropSettings(scale=(low, 1.0)), 32).draw(key(20000), sides(20000, 400, 400))
        share = (box.height * box.width).double() / 400**2
        assert low * 0.98 < share.min() < low * 1.05
