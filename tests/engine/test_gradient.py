"""Divided steps against plain ones: the same weights, statistics, momenta and queue, to float64's last digits."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ssl_cli.config.methods import (
    DistillSettings,
    FineTuneSettings,
    InstDiscSettings,
    InvaSpreadSettings,
    MoCoSettings,
    SimCLRSettings,
    SimCLRv2Settings,
)
from ssl_cli.config.tree import OptimSettings
from ssl_cli.engine import gradient as module
from ssl_cli.engine.gradient import MicroBatched, compute_gradient
from ssl_cli.engine.rows import Shard
from ssl_cli.methods.instdisc import InstDisc
from ssl_cli.methods.invaspread import InvaSpread
from ssl_cli.methods.moco import MoCo
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.methods.simclr_v2 import SimCLRv2
from ssl_cli.nn.batchnorm import Moments, grouped
from ssl_cli.nn.bn_groups import bn_groups
from ssl_cli.nn.precision import autocast, tf32
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Batch, Objective
from ssl_cli.optim.build import build_optimiser
from ssl_cli.transfer.distill import Distill
from ssl_cli.transfer.finetune import FineTune

STEPS = 3
WIDTH, FEATURES, SIDE = 0.0625, 32, 8
EXACT = autocast(torch.device("cpu"), "fp64")


def simclr(backbone: nn.Module) -> Objective:
    return SimCLR(backbone, FEATURES, SimCLRSettings(temperature=0.2, head_batchnorm=True))


def moco(backbone: nn.Module) -> Objective:
    return MoCo(backbone, FEATURES, MoCoSettings(queue=33, ema=0.9))


def moco_symmetric(backbone: nn.Module) -> Objective:
    return MoCo(backbone, FEATURES, MoCoSettings(queue=33, ema=0.9, symmetric=True))


def instdisc(backbone: nn.Module) -> Objective:
    objective = InstDisc(backbone, FEATURES, InstDiscSettings(noise=8))
    objective.prepare(LARGE.images, seed=0)
    return objective


def instdisc_softmax(backbone: nn.Module) -> Objective:
    objective = InstDisc(backbone, FEATURES, InstDiscSettings(noise=0, temperature=0.1))
    objective.prepare(LARGE.images, seed=0)
    return objective


def invaspread(backbone: nn.Module) -> Objective:
    return InvaSpread(backbone, FEATURES, InvaSpreadSettings())


def simclr_v2(backbone: nn.Module) -> Objective:
    return SimCLRv2(backbone, FEATURES, SimCLRv2Settings(temperature=0.2, head_batchnorm=True))


def simclr_v2_memory(backbone: nn.Module) -> Objective:
    cfg = SimCLRv2Settings(temperature=0.2, head_batchnorm=True, memory=33, ema=0.9)
    return SimCLRv2(backbone, FEATURES, cfg)


def simclr_v2_past(backbone: nn.Module) -> Objective:
    cfg = SimCLRv2Settings(temperature=0.2, head_batchnorm=True, memory=33, ema=0.9, memory_keys="past")
    return SimCLRv2(backbone, FEATURES, cfg)


def finetune(backbone: nn.Module) -> Objective:
    cfg = FineTuneSettings(head_layers=3, head_batchnorm=True, from_layer=1, loss_scale=4.0)
    return FineTune(backbone, FEATURES, cfg, classes=3)


def distill(backbone: nn.Module) -> Objective:
    teacher = FineTune(resnet18(WIDTH, "cifar"), FEATURES, FineTuneSettings(), classes=3)
    nn.init.normal_(teacher.classifier.weight, std=3.0)
    student = Distill(backbone, FEATURES, DistillSettings(temperature=0.5, alpha=0.5, loss_scale=4.0), classes=3)
    student._frozen = (teacher.eval().requires_grad_(False),)
    return student


METHODS = [
    simclr, moco, moco_symmetric, instdisc, instdisc_softmax, invaspread, simclr_v2, simclr_v2_memory, simclr_v2_past,
    finetune, distill,
]  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Images of a step, and rows of a BatchNorm group at most."""

    images: int = 17
    group: int | Literal["global"] = 8
    lr: float = 0.06


SMALL = Size()
LARGE = Size(64, 32, lr=0.015)  # recipe `cifar` of InstDisc: 0.06 at a batch of 256
"""So many numbers that the sign of one activation, which rounding may decide, is one of many."""


@dataclass(frozen=True)
class Way:
    """How a step's rows are divided."""

    micro: int
    kept: int
    checkpointing: bool = False


ALL = 1000
WAYS = {
    "cached": Way(8, 0),
    "cached, ragged": Way(13, 0),
    "tail-keep": Way(8, 2),
    "all kept in pieces": Way(8, ALL),
    "checkpointed": Way(ALL, ALL, True),
    "checkpointed, cached": Way(8, 0, True),
    "checkpointed, tail-keep": Way(8, 2, True),
}


class WithDropout(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.drop = net, nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.net(x))  # type: ignore[no-any-return]


def _step(
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    views: list[Tensor],
    step: int,
    way: Way | None,
    size: Size,
) -> float:
    """One step, divided in some way; or for None in the plain way, everything in one graph."""
    images = size.images
    batch = Batch([], torch.arange(images) % 4 - 1, torch.arange(images), step=step)
    moments = Moments()
    micro, sparing = (way.micro, way.checkpointing) if way else (ALL, False)

    def rowwise(call: Callable[[Tensor], Tensor], count: int, stream: int) -> MicroBatched:
        groups = bn_groups(images, count, size.group, 0, step, stream)
        return MicroBatched(objective, call, Shard((groups,)), micro, EXACT, 1000 * step, sparing)

    targets = None
    if objective.has_targets:

        def targets_of(rows: Tensor) -> Tensor:
            found = objective.targets([view[rows] for view in views], batch.rows(rows))
            assert found is not None
            return found

        targets = rowwise(targets_of, 1, 2).forward_all(moments)
    x = torch.cat(list(views[: objective.gradient_views]))
    rows = rowwise(lambda rows: objective(x[rows]), objective.gradient_views, 1)
    if way is None:
        torch.manual_seed(rows.seed)
        with grouped(objective, rows.shard.local.sizes, moments):
            z = rows.shard.gather(objective(x[rows.shard.local.order]))
        value = objective.loss(z, targets, batch)
        value.backward()  # type: ignore[no-untyped-call]
    else:
        value, z = compute_gradient(rows, lambda z: objective.loss(z, targets, batch), moments, way.kept)
    optimiser.step()
    optimiser.zero_grad()
    moments.commit()
    objective.after_step(z.detach(), targets, batch, step / STEPS)
    return value.item()


@functools.cache
def train(
    method: Callable[[nn.Module], Objective],
    way: Way | None,
    size: Size = SMALL,
    dropout: bool = False,
    dtype: torch.dtype = torch.float64,
) -> tuple[dict[str, Tensor], list[float]]:
    """Some optimiser steps; every tensor that a checkpoint would hold, and the losses."""
    torch.manual_seed(0)
    backbone: nn.Module = resnet18(WIDTH, "cifar")
    objective = method(WithDropout(backbone) if dropout else backbone).to(dtype).train()
    optimiser = build_optimiser(
        objective, OptimSettings(name="sgd", weight_decay=1e-4), size.lr, objective.plain_parameters
    )
    generator = torch.Generator().manual_seed(7)
    views = list(torch.rand(2, size.images, 3, SIDE, SIDE, dtype=torch.float64, generator=generator))
    views = [view.to(dtype) for view in views]
    losses = [_step(objective, optimiser, views, step, way, size) for step in range(STEPS)]
    momenta = {f"momentum.{i}": s["momentum_buffer"] for i, s in enumerate(optimiser.state.values())}
    return {**objective.state_dict(), **momenta}, losses


PAIRS = [
    pytest.param(method, way, id=f"{method.__name__}-{name}", marks=() if quick else pytest.mark.slow)
    for i, method in enumerate(METHODS)
    for j, (name, way) in enumerate(WAYS.items())
    for quick in [i == 0 or j == i % len(WAYS)]
]
"""All ways with one method and one way with every other; the rest of the product is slow."""


@pytest.mark.parametrize(("method", "way"), PAIRS)
def test_every_way_equals_the_plain_step(method: Callable[[nn.Module], Objective], way: Way) -> None:
    plain, losses = train(method, None)
    divided, divided_losses = train(method, way)
    assert abs(losses[-1] - losses[0]) > 0.05  # something was learned, or equality would say little
    assert losses == pytest.approx(divided_losses, abs=1e-10)
    assert plain.keys() == divided.keys()
    for name, value in plain.items():
        torch.testing.assert_close(divided[name], value, atol=1e-10, rtol=0, equal_nan=True, msg=name)
    assert int(plain["backbone.bn1.num_batches_tracked"]) == STEPS


@pytest.mark.parametrize(
    ("method", "way"),
    [
        (simclr, Way(32, 0)),
        (simclr, Way(32, 2)),
        (moco_symmetric, Way(32, 0, True)),
        pytest.param(instdisc, Way(32, 0), marks=pytest.mark.slow),
        pytest.param(invaspread, Way(32, 2), marks=pytest.mark.slow),
        pytest.param(simclr_v2_memory, Way(32, 0, True), marks=pytest.mark.slow),
    ],
)
def test_in_single_precision_no_way_is_further_off_than_twice_the_plain_step(
    method: Callable[[nn.Module], Objective], way: Way
) -> None:
    exact, _ = train(method, None, LARGE)
    plain, _ = train(method, None, LARGE, dtype=torch.float32)
    divided, _ = train(method, way, LARGE, dtype=torch.float32)
    assert distance(divided, exact) <= 2 * distance(plain, exact)


def distance(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    apart = [(found[name].double() - value.double()).nan_to_num().square().sum() for name, value in exact.items()]
    return float(torch.stack(apart).sum().sqrt())


@pytest.mark.parametrize("method", [simclr, moco_symmetric, invaspread])
def test_checkpointing_is_exact_with_one_group_of_all_rows(method: Callable[[nn.Module], Objective]) -> None:
    plain, _ = train(method, None, size=Size(group="global"))
    sparing, _ = train(method, WAYS["checkpointed"], size=Size(group="global"))
    for name, value in plain.items():
        torch.testing.assert_close(sparing[name], value, atol=1e-10, rtol=0, msg=name)


def test_groups_change_the_maths() -> None:
    """The comparison above has power: other groups give other weights."""
    grouped, _ = train(simclr, None)
    together, _ = train(simclr, None, size=Size(group="global"))
    assert (grouped["backbone.conv1.weight"] - together["backbone.conv1.weight"]).abs().max() > 1e-6


@pytest.mark.parametrize("way", [Way(8, 0), Way(8, 2), Way(8, ALL, True), Way(8, 1, True)])
def test_dropout_is_replayed(way: Way) -> None:
    """All passes of a micro-batch draw the same numbers, and the draws are not the same in every micro-batch."""
    once, _ = train(simclr, Way(8, ALL), dropout=True)
    divided, _ = train(simclr, way, dropout=True)
    for name, value in once.items():
        torch.testing.assert_close(divided[name], value, atol=1e-10, rtol=0, msg=name)


def test_each_micro_batch_has_dropout_of_its_own() -> None:
    drop = nn.Dropout(0.5)
    groups = bn_groups(8, 1, 4, 0, 0, 1)
    rows = MicroBatched(drop, lambda rows: drop(torch.ones(len(rows), 64)), Shard((groups,)), 4, EXACT, 0)
    (first, second), again = (
        [rows.forward(number, None) for number in range(len(rows.micro_batches))] for _ in range(2)
    )
    assert not torch.equal(first, second)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])


def test_targets_and_loss_move_no_state() -> None:
    torch.manual_seed(0)
    objective = moco_symmetric(resnet18(WIDTH, "cifar")).train()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    views = list(torch.rand(2, 6, 3, 16, 16))
    batch = Batch([], torch.full((6,), -1), torch.arange(6))
    keys = objective.targets(views, batch)
    assert keys is not None
    objective.loss(objective(torch.cat(views)), keys, batch).backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())
    assert all(p.grad is None for p in objective.key.parameters())  # type: ignore[union-attr]


def rounding() -> tuple[str, str]:
    """How a card multiplies what is float32: in matrix products, and in convolutions."""
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    return torch.backends.cuda.matmul.fp32_precision, convolutions.fp32_precision


def test_tf32_ends_with_its_block_and_is_a_card_s_alone() -> None:
    before = rounding()
    with tf32(torch.device("cpu")):
        assert rounding() == before
    with autocast(torch.device("cuda"), "fp32")():
        assert rounding() == ("tf32", "tf32")
    assert rounding() == before


@pytest.mark.parametrize("kept", [0, 1, ALL])
def test_networks_multiply_in_tf32_both_ways_and_the_loss_in_neither(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, before = torch.device("cuda"), rounding()
    monkeypatch.setattr(module, "tf32", lambda _: tf32(card))
    net = nn.Linear(8, 4)
    in_network, in_loss = list[tuple[str, str]](), list[tuple[str, str]]()
    net.weight.register_hook(lambda _: in_network.append(rounding()))  # type: ignore[no-untyped-call]

    def call(rows: Tensor) -> Tensor:
        in_network.append(rounding())
        return net(torch.ones(len(rows), 8))  # type: ignore[no-any-return]

    def loss(z: Tensor) -> Tensor:
        in_loss.append(rounding())
        z.register_hook(lambda _: in_loss.append(rounding()))  # type: ignore[no-untyped-call]
        return z.square().mean()

    groups = bn_groups(8, 1, 4, 0, 0, 1)
    compute_gradient(MicroBatched(net, call, Shard((groups,)), 4, autocast(card, "fp32"), 0), loss, Moments(), kept)
    assert len(in_network) == 4 + max(2 - kept, 0)
    assert set(in_network) == {("tf32", "tf32")}
    assert in_loss == [before, before]
    assert rounding() == before
