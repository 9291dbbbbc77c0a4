"""InvaSpread: one encoder, two views in the batch, its chance level; the loss has an oracle of its own."""

import pytest
import torch
from torch.nn.functional import normalize

from ssl_cli.config.methods import InvaSpreadSettings
from ssl_cli.methods.invaspread import InvaSpread
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Batch
from tests.oracle.dense import invariant_spread

BATCH = Batch([], torch.full((4,), -1), torch.arange(4))


def build() -> InvaSpread:
    torch.manual_seed(0)
    return InvaSpread(resnet18(0.25, "cifar"), 128, InvaSpreadSettings())


def test_the_loss_is_the_paper_s_over_both_views() -> None:
    z = normalize(torch.randn(8, 128, dtype=torch.float64), dim=1)
    torch.testing.assert_close(build().loss(z, None, BATCH), invariant_spread(z, 0.1))


def test_chance_is_the_loss_where_all_rows_are_one() -> None:
    z = normalize(torch.ones(8, 128, dtype=torch.float64), dim=1)
    assert build().loss(z, None, BATCH).item() == pytest.approx(build().chance(4), abs=1e-9)


def test_there_is_no_second_encoder_and_no_memory() -> None:
    objective = build()
    assert not objective.has_targets
    assert {name.partition(".")[0] for name in objective.state_dict()} == {"backbone", "projector"}
    assert all(parameter.requires_grad for parameter in objective.parameters())


def test_views_find_each_other() -> None:
    z = normalize(torch.randn(4, 128), dim=1)
    assert build().observe(torch.cat([z, z]), None, BATCH)["top1"].item() == 1
