"""What every method in the registry keeps to, whatever it computes."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.objective import Batch, Objective
from ssl_cli.optim.build import build_optimiser
from ssl_cli.registry import METHODS

IMAGES = 8
CPU = torch.device("cpu")
EXTRA: dict[str, dict[str, Any]] = {
    "instdisc": {"noise": 6},
    "moco-v1": {"queue": 24, "ema": 0.9, "head_layers": 1},
    "moco-v2": {"queue": 24, "ema": 0.9},
    "simclr-v2": {"memory": 24, "ema": 0.9},
}
pytestmark = pytest.mark.parametrize("method", list(METHODS))


def settings(method: str, **more: float) -> Settings:
    extra = EXTRA.get(method, {}) | more
    return Settings.model_validate(
        {
            "method": {"name": method, **extra},
            "model": {"width": 0.125},
            "data": {"size": 8},
            "optim": {"name": "sgd", "lr": 0.1},
        }
    )


def build(method: str, **more: float) -> Objective:
    return build_objective(settings(method, **more), CPU, IMAGES).train()


def make_batch(step: int = 0) -> tuple[Batch, list[Tensor]]:
    generator = torch.Generator().manual_seed(step)
    views = list(torch.rand(2, IMAGES, 3, 8, 8, generator=generator))
    return Batch([], torch.full((IMAGES,), -1), torch.arange(IMAGES), step=step), views


def loss_of(objective: Objective, views: Sequence[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
    with torch.no_grad():
        targets = objective.targets(views, batch)
    z = objective(torch.cat(list(views[: objective.gradient_views])))
    return objective.loss(z, targets, batch), z, targets


def step(objective: Objective, optimiser: torch.optim.Optimizer, number: int) -> float:
    batch, views = make_batch(number)
    loss, z, targets = loss_of(objective, views, batch)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    objective.after_step(z.detach(), targets, batch, 0.5)
    return float(loss.detach())


def same(a: Tensor, b: Tensor) -> bool:
    """To the last bit; what is not a number on both sides is the same."""
    return bool(torch.equal(a.isnan(), b.isnan())) and torch.equal(a.nan_to_num(), b.nan_to_num())


def test_rows_are_independent_in_evaluation_mode(method: str) -> None:
    objective = build(method).eval()
    _, views = make_batch()
    with torch.no_grad():
        together, alone = objective(views[0]), torch.cat([objective(row[None]) for row in views[0]])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_embeddings_are_unit_rows_and_h_is_the_backbone(method: str) -> None:
    objective = build(method)
    _, views = make_batch()
    torch.testing.assert_close(objective(views[0]).norm(dim=1), torch.ones(IMAGES))
    objective.eval()
    assert torch.equal(objective.represent(views[0]), objective.backbone(views[0]))


def test_loss_is_a_finite_scalar_whose_gradient_reaches_the_backbone_alone(method: str) -> None:
    objective = build(method)
    batch, views = make_batch()
    with torch.no_grad():
        targets = objective.targets(views, batch)
    if targets is not None and targets.is_floating_point():
        targets.requires_grad_()
    frozen = [p for p in objective.parameters() if not p.requires_grad]
    loss = objective.loss(objective(torch.cat(list(views[: objective.gradient_views]))), targets, batch)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and bool(p.grad.any()) for p in objective.backbone.parameters())
    assert all(p.grad is None for p in frozen)


def test_only_after_step_moves_state(method: str) -> None:
    objective = build(method)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    batch, views = make_batch()
    loss, z, targets = loss_of(objective, views, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    objective.observe(z.detach(), targets, batch)
    objective.chance(IMAGES)
    assert all(same(before[name], value) for name, value in objective.state_dict().items())


def test_all_state_is_in_the_checkpoint(method: str) -> None:
    """Save, load into a fresh objective, take the next step: equal to the last bit."""
    ours = build(method)
    optimiser = build_optimiser(ours, settings(method).optim, 0.1)
    for number in range(3):
        step(ours, optimiser, number)
    saved, saved_optimiser = copy.deepcopy(ours.state_dict()), copy.deepcopy(optimiser.state_dict())
    step(ours, optimiser, 3)
    theirs = build(method)
    fresh = build_optimiser(theirs, settings(method).optim, 0.1)
    theirs.load_state_dict(saved)
    fresh.load_state_dict(saved_optimiser)
    step(theirs, fresh, 3)
    for name, value in ours.state_dict().items():
        assert same(theirs.state_dict()[name], value), name


def test_thirty_steps_on_one_batch_lower_the_loss(method: str) -> None:
    """With the state frozen, so that only the gradient can do it."""
    objective = build(method)
    optimiser = build_optimiser(objective, settings(method).optim, 0.1)
    batch, views = make_batch()
    losses = []
    for _ in range(30):
        loss, _, _ = loss_of(objective, views, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_weights_are_a_function_of_the_seed(method: str) -> None:
    one, same = build(method), build(method)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    other_seed = settings(method).model_copy(update={"run": settings(method).run.model_copy(update={"seed": 1})})
    other = build_objective(other_seed, CPU)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_loss_scale_is_a_factor_of_the_loss_its_gradient_and_the_chance_level(method: str) -> None:
    plain, doubled = build(method), build(method, loss_scale=2.0)
    batch, views = make_batch()
    found = []
    for objective in (plain, doubled):
        loss, _, _ = loss_of(objective, views, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        slope = torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])
        found.append((loss.detach(), slope, objective.chance(IMAGES)))
    (loss, slope, chance), (twice, steeper, level) = found
    torch.testing.assert_close(twice, 2 * loss)
    torch.testing.assert_close(steeper, 2 * slope)
    assert chance is not None
    assert level == 2 * chance
