"""The softmax over the memory bank against plain loops: InstDisc, equations 2 and 3."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_cli.losses.row_softmax import row_softmax
from tests.oracle import paper
from tests.oracle.agree import agree_with_slope


def problem(images: int, bank: int, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(images * 100 + bank)
    z, rows = (normalize(torch.randn(n, dim, dtype=torch.float64, generator=generator)) for n in (images, bank))
    return z, rows, torch.randint(bank, (images,), generator=generator)


@pytest.mark.parametrize("images", [1, 6])
@pytest.mark.parametrize("bank", [1, 13, 32])
@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.1, 0.3, 1.0])
def test_equals_the_paper_in_value_and_gradient(images: int, bank: int, temperature: float) -> None:
    z, rows, index = problem(images, bank)
    agree_with_slope(
        "softmax over the bank",
        z,
        lambda v: paper.row_softmax(v, rows.tolist(), index.tolist(), temperature),
        lambda v: row_softmax(v, rows, index, temperature),
        lambda v: row_softmax(v, rows, index, temperature, tile=4 * images),
    )


def test_chance_level() -> None:
    same = normalize(torch.ones(30, 3, dtype=torch.float64))
    assert float(row_softmax(same[:4], same, torch.arange(4), 0.07)) == pytest.approx(math.log(30))
