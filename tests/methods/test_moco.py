"""MoCo's traps (recipes, 1 to 12): each test fails when its trap is fallen into."""

import math

import pytest
import torch
from torch import Tensor

from ssl_cli.config.methods import MoCoSettings
from ssl_cli.methods.moco import MoCo
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Batch


def build(**settings: object) -> MoCo:
    torch.manual_seed(0)
    return MoCo(resnet18(0.25, "cifar"), 128, MoCoSettings.model_validate({"queue": 12, **settings})).double()


def make(images: int = 4) -> tuple[Batch, list[Tensor]]:
    batch = Batch([], torch.full((images,), -1), torch.arange(images))
    return batch, list(torch.rand(2, images, 3, 16, 16, dtype=torch.float64))


def keys_of(moco: MoCo, views: list[Tensor], batch: Batch) -> Tensor:
    with torch.no_grad():
        return moco.targets(views, batch)


def test_a_query_never_meets_its_own_key_as_a_negative() -> None:
    """The queue is read as it was before the step (trap 3): a perfect query among strangers has no loss floor."""
    moco = build(temperature=0.05)
    batch, views = make()
    moco.queue.rows.copy_(torch.eye(128, dtype=torch.float64)[:12])
    z = torch.eye(128, dtype=torch.float64)[20:24]
    loss = moco.loss(z, z[:, None], batch)
    assert float(loss) < 1e-6
    assert keys_of(moco, views, batch).shape == (4, 1, 128)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_queue_takes_all_keys_after_the_loss(symmetric: bool) -> None:
    moco = build(symmetric=symmetric)
    batch, views = make()
    before = moco.queue.rows.clone()
    keys = keys_of(moco, views, batch)
    moco.loss(moco(torch.cat(views)[: 4 * moco.gradient_views]), keys, batch)
    assert torch.equal(moco.queue.rows, before)
    moco.after_step(torch.empty(0), keys, batch, 0.0)
    count = 4 * moco.gradient_views
    assert torch.equal(moco.queue.rows[count:], before[count:])
    flat = keys.transpose(0, 1).flatten(0, 1)
    assert torch.equal(moco.queue.rows[:count], flat)


def test_symmetric_is_the_mean_of_both_directions() -> None:
    moco, plain = build(symmetric=True), build()
    batch, views = make()
    keys = keys_of(moco, views, batch)
    q = torch.cat([moco(views[0]), moco(views[1])])
    both = moco.loss(q, keys, batch)
    first = plain.loss(q[:4], keys_of(plain, views, batch), batch)
    second = plain.loss(q[4:], keys_of(plain, views[::-1], batch), batch)
    torch.testing.assert_close(both, (first + second) / 2)


def test_the_key_head_is_a_copy_and_follows_in_parameters_alone() -> None:
    moco = build(ema=0.5)
    assert all(torch.equal(a, b) for a, b in zip(moco.key.parameters(), moco.online.parameters(), strict=True))
    with torch.no_grad():
        for p in moco.online.parameters():
            p.add_(1)
    moco.backbone.get_buffer("bn1.running_mean").add_(3)
    before = [p.clone() for p in moco.key.parameters()]
    batch, views = make()
    moco.after_step(torch.empty(0), keys_of(moco, views, batch), batch, 0.0)
    for old, new in zip(before, moco.key.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.5)
    assert not moco.key.get_buffer("0.bn1.running_mean").any()


def test_keys_are_outside_the_graph_and_the_optimiser() -> None:
    moco = build()
    assert not any(p.requires_grad for p in moco.key.parameters())
    trained = {name for name, p in moco.named_parameters() if p.requires_grad}
    assert not any(name.startswith("key.") for name in trained)
    assert any(name.startswith("projector.") for name in trained)


def test_all_of_it_is_saved() -> None:
    names = set(build().state_dict())
    assert {"queue.rows", "queue.cursor", "key.0.conv1.weight", "backbone.conv1.weight"} <= names
    assert not any(name.startswith("online.") for name in names)


def test_chance() -> None:
    assert build().chance(4) == pytest.approx(math.log(13))


def test_heads() -> None:
    assert [type(m).__name__ for m in build(head_layers=1).projector.children()] == ["Linear"]
    mlp = list(build(head_layers=2).projector.children())
    assert [type(m).__name__ for m in mlp] == ["Linear", "ReLU", "Linear"]
    assert mlp[0].bias is not None
