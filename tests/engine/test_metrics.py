"""Metrics of z: what is read, and when a collapse is reported."""

import torch

from ssl_cli.engine.metrics import PATIENCE, CollapseWatch, observe
from ssl_cli.nn.heads import unit
from ssl_cli.objective import Batch
from tests.contract.test_methods import build, loss_of, make_batch


def test_numbers_of_a_method_and_of_its_z() -> None:
    objective = build("simclr")
    batch, views = make_batch()
    _, z, targets = loss_of(objective, views, batch)
    numbers = observe(objective, z.detach(), targets, batch)
    assert {"top1", "alignment", "spread", "uniformity", "effective_rank"} == set(numbers)
    assert all(isinstance(value, float) for value in numbers.values())


def test_z_that_is_not_finite_or_no_matrix_is_left_out() -> None:
    objective = build("simclr")
    batch = Batch([], torch.zeros(2), torch.arange(2))
    z = torch.full((4, 8), torch.nan)
    assert "spread" not in observe(objective, z, None, batch)


def test_a_random_network_is_not_collapsed_and_a_constant_one_is() -> None:
    objective = build("simclr")
    batch, views = make_batch()
    _, z, _ = loss_of(objective, views, batch)
    assert observe(objective, z.detach(), None, batch)["spread"] > 0.1
    constant = unit(torch.ones(16, 8) + 1e-3 * torch.randn(16, 8))
    assert observe(objective, constant, None, batch)["spread"] < 0.1


def test_a_collapse_is_reported_once_and_only_when_it_lasts() -> None:
    watch = CollapseWatch()
    flat, well = {"spread": 0.01}, {"spread": 0.8}
    assert not watch.collapsed(10, flat)
    assert not watch.collapsed(10 + PATIENCE - 1, flat)
    assert not watch.collapsed(40, well)
    assert not watch.collapsed(50, flat)
    assert watch.collapsed(50 + PATIENCE, flat)
    assert not watch.collapsed(90, flat)
    assert not watch.collapsed(100, {})
