"""What holds of every operation: whose draws it uses, which images it changes, and what it takes and gives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli.augment.pipeline import Op, Pipeline, sides_of
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.section import Section
from ssl_cli.draws import Key
from ssl_cli.registry import OPS, load

from .pictures import batch, key, ks_distance, pictures, sides

CHANGING = [name for name in OPS if name not in {"crop", "normalize"}]
COINS = [name for name in CHANGING if name != "rotate"]  # a rotation by nothing is no rotation


def op_of(name: str, size: int, **given: Any) -> Op:
    settings: Section = getattr(AugmentSettings(), name)
    op: Op = load(OPS[name])(settings.model_copy(update=given), size)
    return op


def fields(params: Any) -> list[Tensor]:
    return list(params)


def rows(params: Any, which: Any) -> Any:
    return type(params)(*(field[which] for field in params))


@pytest.mark.parametrize("name", ["crop", *CHANGING])
def test_draws_are_a_function_of_seed_epoch_image_and_view(name: str) -> None:
    n = 200
    op = op_of(name, 16)
    first = fields(op.draw(key(n), sides(n, 40, 50)))
    assert all(torch.equal(a, b) for a, b in zip(first, op.draw(key(n), sides(n, 40, 50)), strict=True))
    part = op.draw(Key(0, 0, torch.arange(30, 37), 0), sides(7, 40, 50))
    assert all(torch.equal(a[30:37], b) for a, b in zip(first, part, strict=True))
    for other in (Key(1, 0, torch.arange(n), 0), Key(0, 1, torch.arange(n), 0), key(n, 1), key(2 * n)):
        drawn = [field[-n:] for field in op.draw(other, sides(len(other.image), 40, 50))]
        assert any(not torch.equal(a, b) for a, b in zip(first, drawn, strict=True))


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16])
def test_an_image_does_not_depend_on_its_batch(name: str, channels: int) -> None:
    """Bit for bit; and images of any number of channels stay float32 in [0, 1], of their shape, and contiguous."""
    n, size = 37, 15
    op = op_of(name, size, p=0.7)
    x = pictures(n, size, size, channels).float() / 255
    params = op.draw(key(n), sides(n, 40, 50))
    whole = op.apply(x.clone(), params)
    assert (whole.shape, whole.dtype, whole.is_contiguous()) == (x.shape, torch.float32, True)
    assert 0 <= float(whole.min()) <= float(whole.max()) <= 1
    for some in (slice(0, 1), slice(5, 6), slice(7, 20), slice(20, 37)):
        assert torch.equal(op.apply(x[some].clone(), rows(params, some)), whole[some])


@pytest.mark.parametrize("name", CHANGING)
def test_without_probability_it_is_the_identity(name: str) -> None:
    n = 60
    op = op_of(name, 16, p=0.0)
    params = op.draw(key(n), sides(n, 40, 50))
    x = pictures(n, 16, 16).float() / 255
    kept = x.clone()
    assert op.apply(x, params) is x
    assert torch.equal(x, kept)
    assert all(op.describe(params, i, sides(n, 40, 50)) is None for i in range(n))


@pytest.mark.parametrize("name", COINS)
def test_only_images_that_drew_it_are_changed(name: str) -> None:
    n = 60
    op = op_of(name, 16, p=0.5)
    params = op.draw(key(n), sides(n, 40, 50))
    x = pictures(n, 16, 16).float() / 255
    y = op.apply(x.clone(), params)
    assert ((y != x).flatten(1).any(1) == params.on).all()
    assert 0 < int(params.on.sum()) < n


@pytest.mark.parametrize("name", ["crop", *CHANGING])
def test_every_view_epoch_and_seed_has_the_same_law_and_its_own_draws(name: str) -> None:
    n = 4000
    op = op_of(name, 16)
    images = torch.arange(n)
    keys = (Key(0, 0, images, 0), Key(0, 0, images, 1), Key(0, 1, images, 0), Key(1, 0, images, 0))
    drawn = [torch.cat([field.view(n, -1).double() for field in op.draw(k, sides(n, 300, 400))], 1) for k in keys]
    for other in drawn[1:]:
        for a, b in zip(drawn[0].T, other.T, strict=True):
            assert ks_distance(a, b) < 1.95
            if a.std() > 0:
                assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 4.5 / n**0.5


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("name", COINS)
def test_probabilities(name: str, p: float) -> None:
    n = 20000
    share = op_of(name, 16, p=p).draw(key(n), sides(n, 40, 50)).on.double().mean().item()
    assert abs(share - p) <= 3.3 * (p * (1 - p) / n) ** 0.5


@pytest.mark.parametrize("name", COINS)
def test_coins_of_views_and_of_operations_are_independent(name: str) -> None:
    n = 20000
    mine = [op_of(name, 16, p=0.5).draw(key(n, view), sides(n, 40, 50)).on for view in (0, 1, 2)]
    others = [op_of(other, 16, p=0.5).draw(key(n), sides(n, 40, 50)).on for other in COINS if other != name]
    together = torch.corrcoef(torch.stack([*mine, *others]).double())
    assert (together - torch.eye(len(together))).abs().max() < 4.5 / n**0.5


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHANGING)
def test_cuda_equals_cpu(name: str) -> None:
    images = pictures(64, 48, 40)
    op = op_of(name, 48, p=0.6)
    params = op.draw(key(64), sides_of(images))
    x = pictures(64, 48, 48).float() / 255
    torch.testing.assert_close(op.apply(x.cuda(), params).cpu(), op.apply(x.clone(), params), rtol=0, atol=4e-3)
    pipeline = Pipeline(AugmentSettings(order=("crop", name), second=("crop",)), 32, seed=0)
    for a, b in zip(pipeline(batch(images)), pipeline(batch(images.cuda())), strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=0, atol=4e-3)
