"""Cached steps against direct ones: the same weights, statistics, momenta and queue, to float64's last digits."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ssl_cli.config.methods import InstDiscSettings, InvaSpreadSettings, MoCoSettings, SimCLRSettings
from ssl_cli.config.tree import OptimSettings
from ssl_cli.engine.backward import Rowwise, autocast, cached_backward, plain_backward
from ssl_cli.engine.groups import bn_groups
from ssl_cli.methods.instdisc import InstDisc
from ssl_cli.methods.invaspread import InvaSpread
from ssl_cli.methods.moco import MoCo
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.nn.batchnorm import Moments
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Batch, Objective
from ssl_cli.optim.build import build_optimiser

IMAGES, GROUP, STEPS = 17, 8, 5
EXACT = autocast(torch.device("cpu"), "fp64")


def simclr(backbone: nn.Module) -> Objective:
    return SimCLR(backbone, 128, SimCLRSettings(temperature=0.2, head_batchnorm=True))


def moco(backbone: nn.Module) -> Objective:
    return MoCo(backbone, 128, MoCoSettings(queue=33, ema=0.9))


def moco_symmetric(backbone: nn.Module) -> Objective:
    return MoCo(backbone, 128, MoCoSettings(queue=33, ema=0.9, symmetric=True))


def instdisc(backbone: nn.Module) -> Objective:
    objective = InstDisc(backbone, 128, InstDiscSettings(noise=8))
    objective.prepare(IMAGES, seed=0)
    return objective


def instdisc_softmax(backbone: nn.Module) -> Objective:
    objective = InstDisc(backbone, 128, InstDiscSettings(noise=0, temperature=0.1))
    objective.prepare(IMAGES, seed=0)
    return objective


def invaspread(backbone: nn.Module) -> Objective:
    return InvaSpread(backbone, 128, InvaSpreadSettings())


METHODS = [simclr, moco, moco_symmetric, instdisc, instdisc_softmax, invaspread]


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
    backward: Callable[..., tuple[Tensor, Tensor]],
    micro: int,
    group: int | Literal["global"],
) -> float:
    batch = Batch([], torch.full((IMAGES,), -1), torch.arange(IMAGES), step=step)
    moments = Moments()

    def rowwise(call: Callable[[Tensor], Tensor], count: int, stream: int) -> Rowwise:
        return Rowwise(objective, call, bn_groups(IMAGES, count, group, 0, step, stream), micro, EXACT, 1000 * step)

    targets = None
    if objective.has_targets:

        def targets_of(rows: Tensor) -> Tensor:
            found = objective.targets([view[rows] for view in views], batch.rows(rows))
            assert found is not None
            return found

        targets = rowwise(targets_of, 1, 2).without_gradient(moments)
    x = torch.cat(list(views[: objective.gradient_views]))
    value, z = backward(
        rowwise(lambda rows: objective(x[rows]), objective.gradient_views, 1),
        lambda z: objective.loss(z, targets, batch),
        moments,
    )
    optimiser.step()
    optimiser.zero_grad()
    moments.commit()
    objective.after_step(z, targets, batch, step / STEPS)
    return float(value)


def train(
    method: Callable[[nn.Module], Objective],
    cached: bool,
    micro: int,
    group: int | Literal["global"] = GROUP,
    dropout: bool = False,
) -> tuple[dict[str, Tensor], list[float]]:
    """Five optimiser steps; every tensor that a checkpoint would hold, and the losses."""
    torch.manual_seed(0)
    backbone: nn.Module = resnet18(0.25, "cifar")
    objective = method(WithDropout(backbone) if dropout else backbone).double().train()
    optimiser = build_optimiser(objective, OptimSettings(name="sgd", weight_decay=1e-4), 0.06)
    backward = cached_backward if cached else plain_backward
    views = list(torch.rand(2, IMAGES, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(7)))
    losses = [_step(objective, optimiser, views, step, backward, micro, group) for step in range(STEPS)]
    momenta = {f"momentum.{i}": s["momentum_buffer"] for i, s in enumerate(optimiser.state.values())}
    return {**objective.state_dict(), **momenta}, losses


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("micro", [8, 13])
def test_cached_equals_direct(method: Callable[[nn.Module], Objective], micro: int) -> None:
    direct, losses = train(method, cached=False, micro=1000)
    cached, cached_losses = train(method, cached=True, micro=micro)
    assert abs(losses[-1] - losses[0]) > 0.05  # something was learned, or equality would say little
    assert losses == pytest.approx(cached_losses, abs=1e-10)
    assert direct.keys() == cached.keys()
    for name, value in direct.items():
        torch.testing.assert_close(cached[name], value, atol=1e-10, rtol=0, equal_nan=True, msg=name)
    assert int(direct["backbone.bn1.num_batches_tracked"]) == STEPS


def test_direct_in_pieces_equals_direct_at_once() -> None:
    at_once, _ = train(simclr, cached=False, micro=1000)
    in_pieces, _ = train(simclr, cached=False, micro=8)
    for name, value in at_once.items():
        torch.testing.assert_close(in_pieces[name], value, atol=1e-10, rtol=0, msg=name)


def test_groups_change_the_maths() -> None:
    """The comparison above has power: other groups give other weights."""
    grouped, _ = train(simclr, cached=False, micro=1000)
    together, _ = train(simclr, cached=False, micro=1000, group="global")
    assert (grouped["backbone.conv1.weight"] - together["backbone.conv1.weight"]).abs().max() > 1e-6


def test_dropout_is_replayed() -> None:
    """Both passes of a micro-batch draw the same numbers, and the draws are not the same in every micro-batch."""
    once, _ = train(simclr, cached=False, micro=8, dropout=True)
    twice, _ = train(simclr, cached=True, micro=8, dropout=True)
    for name, value in once.items():
        torch.testing.assert_close(twice[name], value, atol=1e-10, rtol=0, msg=name)


def test_each_micro_batch_has_dropout_of_its_own() -> None:
    drop = nn.Dropout(0.5)
    groups = bn_groups(8, 1, 4, 0, 0, 1)
    rows = Rowwise(drop, lambda rows: drop(torch.ones(len(rows), 64)), groups, 4, EXACT, 0)
    (first, second), again = rows.passes(None), list(rows.passes(None))
    assert not torch.equal(first, second)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])


def test_targets_and_loss_move_no_state() -> None:
    torch.manual_seed(0)
    objective = moco_symmetric(resnet18(0.25, "cifar")).train()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    views = list(torch.rand(2, 6, 3, 16, 16))
    batch = Batch([], torch.full((6,), -1), torch.arange(6))
    keys = objective.targets(views, batch)
    assert keys is not None
    objective.loss(objective(torch.cat(views)), keys, batch).backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())
    assert all(p.grad is None for p in objective.key.parameters())  # type: ignore[union-attr]
