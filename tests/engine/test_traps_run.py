"""Traps that only a whole step shows: what comes before what, who shares statistics, what a checkpoint keeps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli import checkpoint
from ssl_cli.engine import rows as rows_module
from ssl_cli.events import Warned
from ssl_cli.methods.moco import MoCo
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.nn.bn_groups import Groups, bn_groups
from ssl_cli.objective import Batch, Targets
from tests.engine.test_pretrain import only, run, settings

STEPS = 3


@dataclass
class Seen:
    """A run of MoCo, as it was seen from inside; before its steps the plan has tried the loss, too."""

    state: dict[str, Any] = field(default_factory=dict)
    groups: list[Groups] = field(default_factory=list)
    own_keys_in_queue: list[bool] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)
    """The first convolution's weights while the loss is taken,"""
    after: list[Tensor] = field(default_factory=list)
    """and when the state moves."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    found, loss, after_step = Seen(), MoCo.loss, MoCo.after_step

    def watched_groups(*args: Any) -> Groups:
        found.groups.append(bn_groups(*args))
        return found.groups[-1]

    def watched_loss(self: MoCo, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        assert targets is not None
        found.own_keys_in_queue.append(bool(torch.isin(targets[:, 0, 0], self.queue.rows[:, 0]).any()))
        found.before.append(self.backbone.get_parameter("conv1.weight").detach().clone())
        return loss(self, z, targets, batch)

    def watched_after_step(self: MoCo, *args: Any) -> None:
        found.after.append(self.backbone.get_parameter("conv1.weight").detach().clone())
        after_step(self, *args)

    out = tmp_path_factory.mktemp("moco") / "run"
    with pytest.MonkeyPatch.context() as patch:
        rows_module.step_rows.cache_clear()
        patch.setattr(rows_module, "bn_groups", watched_groups)
        patch.setattr(MoCo, "loss", watched_loss)
        patch.setattr(MoCo, "after_step", watched_after_step)
        small = {"data": {"size": 16, "images": 48, "threads": 1}, "schedule": {"epochs": 1}}
        method = {"name": "moco-v2", "queue": 20, "ema": 0.5}
        run(settings(out, method=method, model={"width": 0.25, "bn_group": 4}, **small))
    found.state, _ = checkpoint.newest(out / "checkpoints")  # type: ignore[assignment]
    return found


def test_a_key_and_its_query_have_other_neighbours(seen: Seen) -> None:
    """Trap 1: the same groups for both would give the pair away by its statistics."""
    real = [groups for groups in seen.groups if len(groups.sizes) > 1]
    assert len(real) == len(seen.groups) >= 2 * STEPS
    orders = {tuple(groups.order.tolist()) for groups in seen.groups}
    assert len(orders) == 2 * STEPS


def test_the_queue_at_the_loss_holds_no_key_of_the_step(seen: Seen) -> None:
    """Trap 3."""
    assert len(seen.own_keys_in_queue) >= STEPS
    assert not any(seen.own_keys_in_queue)


def test_the_momentum_encoder_follows_weights_that_have_stepped(seen: Seen) -> None:
    """Trap 5: one step late, equation 2 would be about other weights."""
    assert len(seen.after) == STEPS
    for before, after in zip(seen.before[-STEPS:], seen.after, strict=True):
        assert not torch.equal(before, after)


def test_the_key_s_batchnorm_sees_batches_of_its_own(seen: Seen) -> None:
    """Trap 6: in training mode like the query's, from its own rows, and moved once a step."""
    weights = seen.state["objective"]
    assert int(weights["key.0.bn1.num_batches_tracked"]) == int(weights["backbone.bn1.num_batches_tracked"]) == STEPS
    key, query = weights["key.0.bn1.running_mean"], weights["backbone.bn1.running_mean"]
    assert bool(key.any())
    assert not torch.equal(key, query)


def test_a_checkpoint_of_a_run_has_all_that_a_method_keeps(seen: Seen) -> None:
    """Trap 8."""
    kept = set(seen.state["objective"])
    assert {"queue.rows", "queue.cursor", "key.0.conv1.weight", "key.1.2.weight", "projector.2.weight"} <= kept
    assert int(seen.state["objective"]["queue.cursor"]) == STEPS * 16 % 20
    assert seen.state["optimiser"]["state"]


def test_the_loss_is_taken_in_float32_whatever_the_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 15: similarities over a temperature of 0.1 have no digit to lose."""
    honest, met = SimCLR.loss, []

    def loss(self: SimCLR, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        met.append((z.dtype, torch.is_autocast_enabled("cpu")))
        return honest(self, z, targets, batch)

    monkeypatch.setattr(SimCLR, "loss", loss)
    run(settings(tmp_path / "run", data={"images": 16}, schedule={"epochs": 1}, hardware={"precision": "bf16"}))
    assert set(met) == {(torch.float32, False)}


def test_targets_are_outside_the_graph_whoever_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap 5: also where a method makes them with the weights it trains."""
    wanted, honest = [], SimCLR.loss

    def loss(self: SimCLR, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        assert targets is not None
        wanted.append(targets.requires_grad)
        return honest(self, z, None, batch)

    monkeypatch.setattr(SimCLR, "targets", lambda self, views, batch: self(views[1]))
    monkeypatch.setattr(SimCLR, "loss", loss)
    run(settings(tmp_path / "run", data={"images": 16}, schedule={"epochs": 1}))
    assert set(wanted) == {False}


def test_no_state_moves_where_the_loss_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the weights nor what a method keeps: a queue full of NaN would never heal."""
    honest, moved = SimCLR.loss, []

    def loss(self: SimCLR, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        return honest(self, z, targets, batch) * (torch.nan if batch.step == 1 else 1.0)

    monkeypatch.setattr(SimCLR, "loss", loss)
    monkeypatch.setattr(SimCLR, "after_step", lambda self, z, targets, batch, progress: moved.append(batch.step))
    events = run(settings(tmp_path / "run", data={"images": 48}, schedule={"epochs": 1}))
    assert moved == [0, 2]
    assert [event.step for event in only(events, Warned)] == [2]
