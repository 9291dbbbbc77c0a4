"""Losses with positives by group against plain loops, in value and gradient, tiled and over ranks."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.info_nce import info_nce
from ssl_cli.losses.invariant_spread import invariant_spread
from ssl_cli.losses.nce import nce
from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.losses.nt_xent_tiled import add_negatives, local_log_sum_exp, nt_xent_local, nt_xent_tiled
from ssl_cli.losses.row_softmax import row_softmax
from tests.oracle import grouped, paper
from tests.oracle.agree import agree, agree_with_slope

BATCHES = [[0], [4, 4], [0, 1, 0, 2, 1], [3, 3, 3, 3, 9, 5, 9]]
"""Groups of the images of a batch: alone, all of one group, some of one."""
TEMPERATURES = [0.02, 0.05, 0.2, 1.0]


def unit_rows(count: int, seed: int, dim: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator), dim=1)


def near(rows: Tensor, group: list[int]) -> Tensor:
    """Move rows of a group towards one another, so that those left out would matter."""
    return normalize(rows + 2 * unit_rows(max(group) + 1, 9, rows.shape[1])[group], dim=1)


@pytest.mark.parametrize("images", BATCHES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("memory", [0, 1, 40])
def test_nt_xent(images: list[int], temperature: float, memory: int) -> None:
    group, old_group = images * 2, [(3 * k) % 7 for k in range(memory)]
    z, old = near(unit_rows(len(group), 0), group), unit_rows(memory, 1)
    of, old_of = torch.tensor(group), torch.tensor(old_group, dtype=torch.int64)
    further = (old, of, old_of) if memory else (None, of, None)
    agree_with_slope(
        "NT-Xent by group",
        z,
        lambda rows: grouped.nt_xent(rows, group, temperature, old.tolist(), old_group),
        lambda rows: nt_xent(rows, temperature, *further),
        lambda rows: nt_xent_tiled(rows, temperature, 1, *further),
        lambda rows: nt_xent_tiled(rows, temperature, 3, *further),
    )


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("memory", [0, 9])
def test_nt_xent_over_ranks(temperature: float, memory: int) -> None:
    group, old_group = [0, 1, 0, 2] * 2, torch.arange(memory) % 3
    z, old, of = near(unit_rows(8, 0), group), unit_rows(memory, 1), torch.tensor(group)
    parts = torch.tensor([6, 0, 3]), torch.tensor([1, 7, 2, 5, 4])

    def over_ranks(rows: Tensor) -> Tensor:
        logs, grads, fixed = torch.empty(8, dtype=torch.float64), list[Tensor](), rows.detach()
        for local in parts:
            logs[local] = local_log_sum_exp(fixed, local, temperature, 2, of)
            logs[local], grad = add_negatives(
                fixed[local], old, logs[local], temperature, 2, 8, group=of[local], extra_group=old_group
            )
            grads.append(grad)
        found = [
            nt_xent_local(rows, logs, temperature, local, grad, 2, of) for local, grad in zip(parts, grads, strict=True)
        ]
        return torch.stack(found).sum() - nt_xent(fixed, temperature, old, of, old_group)

    agree_with_slope(
        "NT-Xent by group over ranks",
        z,
        lambda rows: grouped.nt_xent(rows, group, temperature, old.tolist(), old_group.tolist()),
        over_ranks,
    )


@pytest.mark.parametrize("images", BATCHES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_against_keys(images: list[int], temperature: float) -> None:
    """The softmax over momentum keys, each row without its own key, and without those of its group."""
    group, old_group = images * 2, [0, 9, 3, 1, 4, 0, 7]
    z, keys, old = near(unit_rows(len(group), 0), group), near(unit_rows(len(group), 1), group), unit_rows(7, 2)
    rows = torch.arange(len(group))
    everyone = torch.tensor([*group, *old_group])
    candidates = torch.cat([keys, old])
    for tile in (1, 5 * len(group), 2**22):
        agree_with_slope(
            "SimCLR v2 against keys by group",
            z,
            lambda v: grouped.against_keys(v, keys.tolist(), group, old.tolist(), old_group, temperature),
            lambda v, tile=tile: row_softmax(  # type: ignore[misc]
                v, candidates, (rows + len(images)) % len(rows), temperature, tile, rows, (everyone[rows], everyone)
            ),
        )


@pytest.mark.parametrize("images", BATCHES)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_info_nce(images: list[int], temperature: float) -> None:
    queue_group = [0, 4, 3, -1, 4, 0, 9, -1]
    q, k, queue = near(unit_rows(len(images), 0), images), unit_rows(len(images), 1), unit_rows(8, 2)
    of = torch.tensor(images), torch.tensor(queue_group)
    agree_with_slope(
        "InfoNCE by group",
        q,
        lambda z: grouped.info_nce(z, k.tolist(), images, queue.tolist(), queue_group, temperature),
        lambda z: info_nce(z, k, queue, temperature, groups=of),
        lambda z: info_nce(z, k, queue, temperature, tile=16, groups=of),
    )


@pytest.mark.parametrize("images", BATCHES)
@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0])
def test_invariant_spread(images: list[int], temperature: float) -> None:
    group = images * 2
    z, of = near(unit_rows(len(group), 0), group), torch.tensor(group)
    agree_with_slope(
        "InvaSpread by group",
        z,
        lambda rows: grouped.invariant_spread(rows, z.tolist(), group, temperature),
        lambda rows: invariant_spread(rows, temperature, group=of),
        lambda rows: invariant_spread(rows, temperature, tile=3 * len(z), group=of),
        lambda rows: torch.stack(
            [
                invariant_spread(rows, temperature, rows=local, group=of) * len(local) / len(z)
                for local in torch.arange(len(z)).tensor_split(3)
                if len(local)
            ]
        ).sum(),
    )


@pytest.mark.parametrize("temperature", [0.05, 0.07, 0.2, 1.0])
def test_the_bank(temperature: float) -> None:
    """The positive of an image is another row of its group; the image's own row is left out with the others."""
    bank_group = [0, 0, 1, 2, 2, 2, 3, 0, 4]
    index, target = [0, 2, 4, 5, 6], [7, 2, 3, 4, 6]
    group = [bank_group[k] for k in index]
    bank, of = near(unit_rows(9, 1), bank_group), torch.tensor(bank_group)
    z, own, positive = near(unit_rows(5, 0), group), torch.tensor(group), torch.tensor(target)
    agree_with_slope(
        "softmax over the bank by group",
        z,
        lambda v: grouped.row_softmax(v, bank.tolist(), target, group, bank_group, temperature),
        lambda v: row_softmax(v, bank, positive, temperature, groups=(own, of)),
        lambda v: row_softmax(v, bank, positive, temperature, tile=20, groups=(own, of)),
    )
    noise = torch.randint(9, (5, 12), generator=torch.Generator().manual_seed(3))
    rows = torch.cat([positive[:, None], noise], 1).tolist()
    Z = paper.nce_constant(z.tolist(), bank.tolist(), rows, temperature)
    out = of[noise] == own[:, None]
    assert bool(out.any())
    agree("NCE by group: the constant Z", nce(z, bank, positive, noise, temperature, left_out=out)[1].exp(), Z)
    agree_with_slope(
        "NCE by group",
        z,
        lambda v: grouped.nce(v, bank.tolist(), rows, group, bank_group, temperature, Z),
        lambda v: nce(
            v, bank, positive, noise, temperature, torch.tensor(math.log(Z), dtype=torch.float64), left_out=out
        )[0],
    )


def test_groups_of_one_are_no_groups_to_the_last_bit() -> None:
    """In every loss, also where a tile would hold all."""
    z, memory, apart = unit_rows(40, 0, 8), unit_rows(30, 1, 8), torch.arange(20).repeat(2)
    strangers = torch.arange(30) + 50
    for tile in (7, 512):
        assert torch.equal(nt_xent_tiled(z, 0.1, tile, memory, apart, strangers), nt_xent_tiled(z, 0.1, tile, memory))
    assert torch.equal(invariant_spread(z, 0.1, group=apart), invariant_spread(z, 0.1))
    assert torch.equal(info_nce(z, z, memory, 0.1, groups=(apart, strangers)), info_nce(z, z, memory, 0.1))
    index, first = torch.arange(40) % 30, (torch.arange(40) % 30, torch.arange(30))
    assert torch.equal(row_softmax(z, memory, index, 0.1, groups=first), row_softmax(z, memory, index, 0.1))


def test_agreement_leaves_out_the_group() -> None:
    anchor = torch.eye(3)
    positive, candidates = 0.5 * torch.eye(3), torch.cat([torch.eye(3), -torch.eye(3)])
    assert float(agreement(anchor, positive, candidates)["top1"]) == 0
    groups = torch.tensor([0, 1, 2]), torch.tensor([0, 5, 2, 1, 1, 1])
    assert float(agreement(anchor, positive, candidates, groups=groups)["top1"]) == pytest.approx(2 / 3)
