"""InstDisc's traps (recipes, 27 to 30), and the whole method against plain loops for a few steps."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_cli.config.methods import InstDiscSettings
from ssl_cli.methods.instdisc import InstDisc
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Batch

IMAGES, ROWS = 4, 40


def build(**settings: object) -> InstDisc:
    torch.manual_seed(0)
    cfg = InstDiscSettings.model_validate({"noise": 6, "head_dim": 16, **settings})
    objective = InstDisc(resnet18(0.25, "cifar"), 128, cfg)
    objective.prepare(ROWS, seed=5)
    return objective.double()


def make(step: int = 0, epoch: int = 0) -> tuple[Batch, Tensor]:
    index = torch.tensor([7, 3, 39, 0]) if step % 2 == 0 else torch.tensor([3, 11, 20, 5])
    generator = torch.Generator().manual_seed(step)
    z = normalize(torch.randn(IMAGES, 16, dtype=torch.float64, generator=generator), dim=1)
    return Batch([], torch.full((IMAGES,), -1), index, epoch, step), z


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a: list[float]) -> list[float]:
    length = math.sqrt(dot(a, a))
    return [x / length for x in a]


def test_three_steps_as_in_plain_loops() -> None:
    """The loss with the bank as it was, Z from the first batch and then fixed, rows blended and made unit."""
    objective, log_z = build(), None
    bank = objective.bank.rows.tolist()
    t, m = objective.cfg.temperature, objective.cfg.noise
    for step in range(3):
        batch, z = make(step)
        noise = objective.targets([], batch)
        loss = objective.loss(z, noise, batch)
        index, rows = batch.index.tolist(), z.tolist()
        chosen = [[index[i], *noise[i].tolist()] for i in range(IMAGES)]
        scores = [[dot(rows[i], bank[j]) / t for j in chosen[i]] for i in range(IMAGES)]
        if log_z is None:
            log_z = math.log(sum(math.exp(s) for row in scores for s in row) / (IMAGES * (m + 1)) * ROWS)
        plain = 0.0
        for row in scores:
            for k, s in enumerate(row):
                p, q = math.exp(s - log_z), m / ROWS
                plain -= math.log((p if k == 0 else q) / (p + q + 1e-7)) / IMAGES
        assert loss.item() == pytest.approx(plain, abs=1e-6)
        objective.after_step(z, noise, batch, 0.0)
        for i, k in enumerate(index):
            bank[k] = unit([0.5 * old + 0.5 * new for old, new in zip(bank[k], rows[i], strict=True)])
        torch.testing.assert_close(objective.bank.rows, torch.tensor(bank, dtype=torch.float64), atol=1e-12, rtol=0)
        assert objective.log_Z.item() == pytest.approx(log_z, abs=1e-6)


def test_z_is_fixed_once_and_lives_in_the_checkpoint() -> None:
    first = build()
    assert math.isnan(first.log_Z)
    batch, z = make()
    noise = first.targets([], batch)
    first.loss(z, noise, batch)
    assert math.isnan(first.log_Z)  # the loss moves no state
    first.after_step(z, noise, batch, 0.0)
    fixed = first.log_Z.clone()
    resumed = build()
    resumed.load_state_dict(first.state_dict())
    for objective in (first, resumed):
        later, other = make(1)
        objective.after_step(other, objective.targets([], later), later, 0.0)
        assert torch.equal(objective.log_Z, fixed)


def test_noise_is_drawn_by_image_and_epoch_alone() -> None:
    objective = build(noise=512)
    batch, _ = make()
    rows = objective.targets([], batch)
    assert torch.equal(objective.targets([], batch.rows(torch.tensor([2]))), rows[2:3])  # in any micro-batch
    assert not torch.equal(objective.targets([], make(epoch=1)[0]), rows)
    assert len(set(rows.flatten().tolist())) == ROWS  # the own row is not excluded, and any other is as likely
    counts = torch.bincount(rows.flatten(), minlength=ROWS).double()
    assert counts.std() / counts.mean() < 0.3


def test_without_noise_it_is_the_softmax_over_the_bank() -> None:
    objective = build(noise=0)
    assert not objective.has_targets
    batch, z = make()
    logits = z @ objective.bank.rows.T / objective.cfg.temperature
    wanted = torch.nn.functional.cross_entropy(logits, batch.index)
    torch.testing.assert_close(objective.loss(z, None, batch), wanted)
    assert objective.chance(IMAGES) == pytest.approx(math.log(ROWS))
    objective.after_step(z, None, batch, 0.0)
    assert math.isnan(objective.log_Z)


def test_the_proximal_term_pulls_to_the_row_before() -> None:
    batch, z = make()
    plain, pulled = build(noise=0), build(noise=0, proximal=3.0)
    gap = (z - plain.bank.rows[batch.index]).square().sum(1).mean()
    torch.testing.assert_close(pulled.loss(z, None, batch) - plain.loss(z, None, batch), 3 * gap)


def test_where_nothing_is_told_apart_the_loss_is_chance() -> None:
    objective = build()
    objective.bank.rows.copy_(objective.bank.rows[:1].expand(ROWS, -1))
    batch, _ = make()
    z = objective.bank.rows[:IMAGES]
    assert objective.loss(z, objective.targets([], batch), batch).item() == pytest.approx(
        objective.chance(IMAGES), abs=1e-4
    )


def test_one_view_and_one_row_an_image() -> None:
    objective = build()
    assert (objective.views, objective.gradient_views, len(objective.bank.rows)) == (1, 1, ROWS)
    batch, z = make()
    assert set(objective.observe(z, None, batch)) == {"top1", "alignment"}
