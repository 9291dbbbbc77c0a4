"""Classifiers trained by SGD: the published settings, step by step, against torch alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssl_cli.errors import DivergedError
from ssl_cli.transfer.sgd_probe import PROTOCOLS, Carry, SgdProbe
from tests.transfer.test_linear import clusters

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("epoch", "moco", "simclr"),
    [(0, 30, 0.2), (59, 30, None), (60, 3, None), (79, 3, None), (80, 0.3, None), (99, 0.3, None), (45, 30, 0.1)],
)
def test_rates_are_the_published_ones(epoch: int, moco: float, simclr: float | None) -> None:
    for name, wanted in (("moco", moco), ("simclr", simclr)):
        how = PROTOCOLS[name]
        probe = SgdProbe(2, 2, how, batch=512, images=1024, seed=0, device=CPU)
        probe.step = 2 * epoch
        probe.learn(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]))
        if wanted is not None:
            assert probe.optimiser.param_groups[0]["lr"] == pytest.approx(wanted)
        assert not any(group["weight_decay"] for group in probe.optimiser.param_groups)
        assert all(group["momentum"] == 0.9 for group in probe.optimiser.param_groups)
        assert all(group["nesterov"] == (name == "simclr") for group in probe.optimiser.param_groups)


def test_batches_are_the_published_ones() -> None:
    assert [PROTOCOLS[name].batch_of(10**6, 224) for name in ("moco", "simclr")] == [256, 4096]
    assert [PROTOCOLS[name].batch_of(10**6, 32) for name in ("moco", "simclr")] == [256, 512]
    assert PROTOCOLS["moco"].batch_of(100, 32) == 100


def test_first_weights() -> None:
    moco, simclr = (
        SgdProbe(512, 100, PROTOCOLS[name], batch=9, images=9, seed=3, device=CPU).linear for name in ("moco", "simclr")
    )
    assert float(moco.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
    assert not simclr.weight.any()
    assert not moco.bias.any()


def test_steps_are_those_of_torch_alone() -> None:
    h, labels = clusters(40)
    how = PROTOCOLS["simclr"]
    probe = SgdProbe(6, 3, how, batch=16, images=40, seed=0, device=CPU)
    net = nn.Linear(6, 3)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    optimiser = torch.optim.SGD(net.parameters(), 1.0, momentum=0.9, nesterov=True)
    for step in range(6):
        rows = slice(16 * (step % 3), 16 * (step % 3) + 16)
        probe.learn(h[rows], labels[rows])
        for group in optimiser.param_groups:
            group["lr"] = 0.1 * 16 / 256 * 0.5 * (1 + math.cos(math.pi * step / 270))
        optimiser.zero_grad()
        F.cross_entropy(net(h[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    torch.testing.assert_close(probe.scores(h), net(h).detach())


@pytest.mark.parametrize("parts", [[10], [3, 4, 3], [1] * 10, [4, 4, 2], [0, 10]])
def test_parts_of_any_size_are_cut_into_batches(parts: list[int]) -> None:
    carry, found = Carry(4), list[list[int]]()
    rows, labels = torch.arange(10.0)[:, None], torch.arange(10)
    for h, label in zip(torch.split(rows, parts), torch.split(labels, parts), strict=True):
        found += [batch.tolist() for _, batch in carry.add(h, label)]
    found += [batch.tolist() for _, batch in carry.rest()]
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_classifier_that_diverges_is_an_error() -> None:
    probe = SgdProbe(2, 2, PROTOCOLS["moco"], batch=2, images=2, seed=0, device=CPU)
    for _ in range(3):
        probe.learn(torch.full((2, 2), torch.inf), torch.tensor([0, 1]))
    with pytest.raises(DivergedError, match="diverged at a rate of 30"):
        probe.scores(torch.ones(1, 2))
