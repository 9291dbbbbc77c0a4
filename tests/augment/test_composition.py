"""Operations in any order, in pairs, on one branch or on both; and without a random crop (SimCLR, section 3)."""

import itertools
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli.augment.crop import Crop
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import AugmentSettings, CropSettings, JitterSettings
from ssl_cli.registry import OPS

from .pictures import batch, key, pictures, sides
from .reference import chain

PAPERS = ("crop", "cutout", "jitter", "sobel", "noise", "blur", "rotate")
"""The seven of the paper's figure 5; `jitter` is its colour distortion."""
ALWAYS = {name: {"p": 1.0} for name in OPS if name not in {"crop", "normalize"}}
WHOLE = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}


def by_hand(pipeline: Pipeline, order: tuple[str, ...], images: Tensor, view: int) -> Tensor:
    """A view image by image, each operation with the parameters that were drawn for it."""
    params = pipeline.draw(batch(images), view)
    assert tuple(params) == order
    out = []
    for i, image in enumerate(images):
        x: Any = image[None]
        for name in order:
            x = pipeline.ops[name].apply(x, type(params[name])(*(field[i : i + 1] for field in params[name])))
        out.append(x)
    return torch.cat(out)


@pytest.mark.parametrize("both", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one", "both"])
@pytest.mark.parametrize(("first", "then"), list(itertools.product(PAPERS, PAPERS)))
def test_the_papers_pairs(first: str, then: str, both: bool) -> None:
    """Rows and columns of the paper's matrix; where no random crop is meant, the crop is the whole image."""
    order = tuple(dict.fromkeys(("crop", first, then)))
    crop = {} if "crop" in (first, then) else WHOLE
    second = None if both else ("crop",)
    settings = AugmentSettings.model_validate({"order": order, "second": second, "crop": crop, **ALWAYS})
    images = pictures(6, 24, 24)
    pipeline = Pipeline(settings, 24, seed=1)
    views = pipeline(batch(images))
    for view, seen in enumerate(views):
        torch.testing.assert_close(
            seen, by_hand(pipeline, ("crop",) if view and not both else order, images, view), rtol=0, atol=1e-5
        )
        assert 0 <= float(seen.min()) <= float(seen.max()) <= 1
    if crop and not both:
        torch.testing.assert_close(views[1], images / 255, rtol=0, atol=1e-6)
    if not (both and {first, then} == {"sobel"}):  # which alone, on whole images, is the same for every view
        assert ((views[0] - views[1]).abs().flatten(1).max(1).values > 0.01).any()


@pytest.mark.parametrize("views", [1, 2, 4])
def test_views_after_the_first_go_through_the_second_order(views: int) -> None:
    images = batch(pictures(40, 32, 40))
    order, second = ("crop", "jitter", "noise", "normalize"), ("crop", "flip", "cutout", "jitter", "normalize")
    mixed = Pipeline(AugmentSettings(order=order, second=second), 16, seed=0)(images, views)
    plain = Pipeline(AugmentSettings(order=order), 16, seed=0)(images, views)
    other = Pipeline(AugmentSettings(order=second), 16, seed=0)(images, views)
    assert torch.equal(mixed[0], plain[0])
    assert not torch.equal(mixed[0], other[0])
    for k in range(1, views):
        assert torch.equal(mixed[k], other[k])
        assert not torch.equal(mixed[k], plain[k])


def test_a_second_order_equal_to_the_first_changes_nothing() -> None:
    images = batch(pictures(20, 32, 32))
    order = ("crop", "flip", "sobel")
    alone, twice = (
        Pipeline(AugmentSettings(order=order, second=second), 16, seed=0)(images) for second in (None, order)
    )
    assert all(torch.equal(a, b) for a, b in zip(alone, twice, strict=True))


def test_each_view_tells_of_its_own_operations() -> None:
    images = batch(pictures(30, 32, 32))
    settings = AugmentSettings.model_validate(
        {"order": ("crop", "sobel", "rotate"), "second": ("crop", "blur"), **ALWAYS}
    )
    pipeline = Pipeline(settings, 16, seed=0)
    params = [pipeline.draw(images, view) for view in (0, 1)]
    told = [[pipeline.describe(drawn, i, sides(30, 32, 32)) for i in range(30)] for drawn in params]
    assert {name for each in told[0] for name in each} == {"crop", "sobel", "rotate"}
    assert {name for each in told[1] for name in each} == {"crop", "blur"}
    for drawn, view in zip(params, pipeline(images), strict=True):
        assert torch.equal(pipeline.apply(images.image, drawn), view)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_is_obeyed(seed: int) -> None:
    """MoCo v1's and InstDisc's gray before jitter (p 1, hue 0.4) among them; against torchvision, one by one."""
    middle = ["gray", "jitter", "flip", "blur", "rotate", "cutout"]
    random.Random(seed).shuffle(middle)
    settings = AugmentSettings(
        order=("crop", *middle, "normalize"), crop=CropSettings(scale=(0.2, 1.0)), jitter=JitterSettings(p=1.0, hue=0.4)
    )
    images = pictures(16, 40, 40)
    pipeline = Pipeline(settings, 32, seed=seed)
    params = pipeline.draw(batch(images), 0)
    assert tuple(params) == settings.order
    theirs = torch.stack([chain(images[i], params, i, settings, 32) for i in range(16)])
    torch.testing.assert_close(pipeline(batch(images))[0], theirs, rtol=0, atol=2e-4)


def test_the_order_matters() -> None:
    images = batch(pictures(16, 32, 32))
    for a, b in (("gray", "jitter"), ("sobel", "jitter"), ("noise", "blur"), ("cutout", "rotate")):
        one, other = (
            Pipeline(AugmentSettings.model_validate({"order": ("crop", *pair), **ALWAYS}), 32, seed=0)(images)[0]
            for pair in ((a, b), (b, a))
        )
        assert (one - other).abs().max() > 0.01, (a, b)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (32, 32, (0, 0, 32, 32)),
        (64, 64, (0, 0, 64, 64)),
        (40, 60, (0, 10, 40, 40)),
        (300, 50, (125, 0, 50, 50)),
        (100, 101, (0, 0, 100, 100)),  # trap: rounded, the square of this area fits, at one of two places
        (1, 7, (0, 3, 1, 1)),
    ],
)
def test_without_a_random_crop_it_is_the_largest_centred_square(height: int, width: int, box: tuple[int, ...]) -> None:
    n = 200
    crop = Crop(CropSettings.model_validate(WHOLE), 32)
    for view in (0, 1):
        drawn = crop.draw(key(n, view), sides(n, height, width))
        assert set(map(tuple, torch.stack(drawn, 1).tolist())) == {box}


def test_the_whole_image_is_kept_where_the_ratio_allows_it() -> None:
    crop = Crop(CropSettings(scale=(1.0, 1.0)), 32)
    drawn = crop.draw(key(4), torch.tensor([[30, 40], [40, 30], [33, 40], [20, 60]]))
    assert torch.stack(drawn, 1).tolist() == [[0, 0, 30, 40], [0, 0, 40, 30], [0, 0, 33, 40], [0, 16, 20, 27]]
