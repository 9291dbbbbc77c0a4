"""Cutout against torchvision's erase, and the law of its patches against the paper's code in plain Python."""

import random

import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from ssl_cli.augment.cutout import Cutout, Patch
from ssl_cli.config.augment import CutoutSettings

from .pictures import key, ks_distance, pictures, sides


@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [8, 33, 96])
def test_equals_torchvision(size: int, fill: float) -> None:
    n = 24
    x = pictures(n, size, size).float() / 255
    cutout = Cutout(CutoutSettings(p=0.7, fill=fill), size)
    drawn = cutout.draw(key(n), sides(n, size, size))
    y = cutout.apply(x.clone(), drawn)
    for i, box in enumerate(torch.stack(drawn[1:], 1).tolist()):
        theirs = tvf.erase(x[i], *box, torch.full((3, 1, 1), fill)) if drawn.on[i] else x[i]
        assert torch.equal(y[i], theirs)


@pytest.mark.parametrize(("size", "low", "high"), [(32, 0.25, 0.5), (96, 0.5, 0.5), (17, 0.01, 1.0)])
def test_patches_follow_the_papers_law(size: int, low: float, high: float) -> None:
    """The centre is any pixel; what lies outside is cut off."""
    n, m = 8000, 4000
    drawn = Cutout(CutoutSettings(p=1.0, size=(low, high)), size).draw(key(n), sides(n, 300, 200))
    sampler = random.Random(0)
    theirs = []
    for _ in range(m):
        side = max(1, round(size * sampler.uniform(low, high)))
        y, x = sampler.randrange(size), sampler.randrange(size)
        top, left = max(0, y - side // 2), max(0, x - side // 2)
        bottom, right = min(size, y - side // 2 + side), min(size, x - side // 2 + side)
        theirs.append((float(top), float(left), float(bottom - top), float(right - left)))
    for name, values in zip(Patch._fields[1:], zip(*theirs, strict=True), strict=True):
        assert ks_distance(getattr(drawn, name), torch.tensor(values)) < 1.95, name
    assert int(torch.stack(drawn[3:]).min()) >= 1
    assert int((drawn.top + drawn.height).max()) == size
    assert int((drawn.left + drawn.width).max()) == size


def test_a_patch_of_the_whole_side_in_the_middle_erases_everything() -> None:
    cutout = Cutout(CutoutSettings(size=(0.5, 1.0)), 9)
    x = pictures(2, 9, 9).float() / 255
    assert (cutout.apply(x, cutout.sweep(sides(2, 9, 9), 3)[""][-1]) == 0.5).all()


def test_size_and_place_are_independent() -> None:
    drawn = Cutout(CutoutSettings(size=(0.01, 0.02)), 4096).draw(key(20000), sides(20000, 1, 1))
    together = torch.corrcoef(torch.stack([field.double() for field in drawn[:4]]))
    assert (together - torch.eye(4)).abs().max() < 4 / 20000**0.5
