"""InfoNCE against the paper in plain loops: MoCo, equation 1."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_cli.losses.info_nce import info_nce
from tests.oracle import paper
from tests.oracle.agree import agree_with_slope


def unit_rows(count: int, seed: int, dim: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator))


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("queue", [1, 13, 50])
@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.07, 0.2, 1.0])
def test_equals_the_paper(rows: int, queue: int, temperature: float) -> None:
    q, k, old = unit_rows(rows, 0), unit_rows(rows, 1), unit_rows(queue, 2)
    agree_with_slope(
        "InfoNCE over a queue",
        q,
        lambda z: paper.info_nce(z, k.tolist(), old.tolist(), temperature),
        lambda z: info_nce(z, k, old, temperature),
        lambda z: info_nce(z, k, old, temperature, tile=2 * queue),
    )


def test_chance_level() -> None:
    same = normalize(torch.ones(4, 3, dtype=torch.float64))
    assert float(info_nce(same, same, same.repeat(5, 1), 0.07)) == pytest.approx(math.log(21))
