"""The whole chain: against torchvision, and as a function of (seed, epoch, image, view) alone."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import (
    AugmentSettings,
    BlurSettings,
    CropSettings,
    FlipSettings,
    GraySettings,
    JitterSettings,
)
from ssl_cli.objective import PackedImages
from ssl_cli.registry import OPS, load

from .pictures import batch, pictures
from .reference import chain

SIMCLR = AugmentSettings(
    order=("crop", "flip", "jitter", "gray", "blur", "normalize"),
    crop=CropSettings(interpolation="bicubic"),
    jitter=JitterSettings(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
)
INSTDISC = AugmentSettings(
    order=("crop", "gray", "jitter", "flip", "normalize"),
    crop=CropSettings(scale=(0.2, 1.0)),
    jitter=JitterSettings(p=1.0, hue=0.4),
)


@pytest.mark.parametrize("settings", [SIMCLR, INSTDISC], ids=["simclr", "instdisc"])
@pytest.mark.parametrize(("n", "source", "size"), [(200, (32, 32), 32), (24, (96, 96), 96), (6, (256, 341), 224)])
def test_equals_torchvision(settings: AugmentSettings, n: int, source: tuple[int, int], size: int) -> None:
    """Order as configured: gray before jitter in InstDisc, after it in SimCLR."""
    images = pictures(n, *source)
    pipeline = Pipeline(settings, size, seed=3)
    data = batch(images)
    for view, ours in enumerate(pipeline(data)):
        params = pipeline.draw(data, view)
        assert tuple(params) == settings.order
        theirs = torch.stack([chain(images[i], params, i, settings, size) for i in range(n)])
        difference = (ours - theirs).abs() * 0.225 * 255  # in gray levels, normalisation undone
        assert difference.max() < 0.01


def test_shape_range_and_memory_format() -> None:
    settings = AugmentSettings()
    for images in (pictures(5, 40, 32), list(pictures(5, 40, 32)), [*pictures(2, 40, 32), *pictures(1, 99, 70)]):
        views = Pipeline(settings, 24, seed=0)(batch(images), views=3)
        assert len(views) == 3
        for view in views:
            assert view.shape == (len(images), 3, 24, 24)
            assert view.dtype == torch.float32
            assert view.is_contiguous(memory_format=torch.channels_last)
            assert view.min() >= 0
            assert view.max() <= 1
    gray = Pipeline(settings, 24, seed=0)(batch(pictures(3, 30, 30, channels=1)))[0]
    assert gray.shape == (3, 1, 24, 24)


def test_same_seed_same_bytes_and_no_global_generator() -> None:
    data = batch(pictures(50, 32, 32))
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = Pipeline(SIMCLR, 32, seed=0)(data)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    again = Pipeline(SIMCLR, 32, seed=0)(data)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_views_seeds_epochs_and_images_differ() -> None:
    images = pictures(1, 32, 32).expand(40, -1, -1, -1)
    first, second = Pipeline(SIMCLR, 32, seed=0)(batch(images))
    (seed,) = Pipeline(SIMCLR, 32, seed=1)(batch(images), views=1)
    (epoch,) = Pipeline(SIMCLR, 32, seed=0)(batch(images, epoch=1), views=1)
    for other in (second, seed, epoch, first.roll(1, 0)):
        assert ((first - other).abs().flatten(1).max(1).values > 0.05).all()


@pytest.mark.parametrize("ragged", [False, True])
def test_an_image_does_not_depend_on_its_batch(ragged: bool) -> None:
    images = pictures(150, 32, 32)
    given = list(images) if ragged else images
    pipeline = Pipeline(SIMCLR, 32, seed=0)
    whole = pipeline(batch(given))
    for start, stop in ((0, 1), (7, 8), (90, 150)):
        for a, b in zip(whole, pipeline(batch(given[start:stop], first=start)), strict=True):
            assert torch.equal(a[start:stop], b)


def test_images_of_many_sizes_have_the_same_views_packed_for_a_gpu() -> None:
    """Where they lie on the CPU nothing is packed; anywhere else all of them come in one copy."""
    data = batch([pictures(1, side, 70 - side, seed=side)[0] for side in range(20, 50)])
    assert isinstance(data.to(torch.device("cpu")).image, list)
    assert isinstance(data.to(torch.device("meta")).image, PackedImages)
    packed = replace(data, image=PackedImages.pack(list(data.image)))
    rows = torch.tensor([7, 2, 29, 2])
    for ours, theirs in ((packed, data), (packed.select(rows), data.select(rows))):
        for a, b in zip(Pipeline(SIMCLR, 24, seed=0)(ours), Pipeline(SIMCLR, 24, seed=0)(theirs), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_autocast_does_not_round_the_pixels() -> None:
    data = batch(pictures(8, 32, 32))
    plain = Pipeline(SIMCLR, 32, seed=0)(data)
    with torch.autocast("cpu", torch.bfloat16):
        cast = Pipeline(SIMCLR, 32, seed=0)(data)
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_images_are_left_as_they_were() -> None:
    images = pictures(8, 32, 32)
    kept = images.clone()
    Pipeline(SIMCLR, 32, seed=0)(batch(images))
    assert torch.equal(images, kept)


def test_switched_off_it_is_the_image_itself() -> None:
    still = AugmentSettings(
        crop=CropSettings(scale=(1.0, 1.0), ratio=(1.0, 1.0)),
        flip=FlipSettings(p=0),
        jitter=JitterSettings(p=0),
        gray=GraySettings(p=0),
        blur=BlurSettings(p=0),
    )
    images = pictures(4, 32, 32)
    torch.testing.assert_close(Pipeline(still, 32, seed=0)(batch(images))[0], images / 255, rtol=0, atol=1e-6)


def test_an_added_operation_shifts_no_draw() -> None:
    data = batch(pictures(4, 32, 32))
    few = Pipeline(AugmentSettings(order=("crop", "blur")), 32, seed=0).draw(data, 0)
    many = Pipeline(AugmentSettings(), 32, seed=0).draw(data, 0)
    for name, drawn in few.items():
        assert all(torch.equal(a, b) for a, b in zip(drawn, many[name], strict=True))


def test_operations_share_no_slot() -> None:
    taken = [slot for path in OPS.values() for slot in load(path).slots]
    assert len(taken) == len(set(taken))


@pytest.mark.parametrize(
    "order", [(), ("flip", "crop"), ("crop", "flip", "flip"), ("crop", "normalize", "flip"), ("crop", "warp")]
)
def test_impossible_orders_are_refused(order: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings(order=order)


@pytest.mark.parametrize("scale", [(0.5, 0.2), (0.0, 1.0), (-0.1, 0.2)])
def test_impossible_ranges_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ValidationError):
        CropSettings(scale=scale)


@pytest.mark.gpu
@pytest.mark.parametrize("mixed", [False, True])
def test_cuda_equals_cpu(mixed: bool) -> None:
    images = [pictures(1, side, 80 - side, seed=side)[0] for side in range(20, 60)] if mixed else pictures(64, 48, 40)
    data = batch(images)
    there = data.to(torch.device("cuda"))
    pipeline = Pipeline(SIMCLR, 32, seed=0)
    for a, b in zip(pipeline(data), pipeline(there), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=0, atol=4e-3)
