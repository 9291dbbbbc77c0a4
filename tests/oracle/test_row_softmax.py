"""The softmax over the memory bank by its words, in plain loops: InstDisc, equations 2 and 3.

The oracle is analytic, so its exact slope is the imaginary part after a step along the imaginary axis.
"""

import cmath
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_cli.losses.row_softmax import row_softmax


def oracle(z: list[list[complex]], bank: list[list[float]], index: list[int], temperature: float) -> complex:
    total = 0j
    for v, own in zip(z, index, strict=True):
        e = [cmath.exp(sum(x * y for x, y in zip(v, row, strict=True)) / temperature) for row in bank]
        total -= cmath.log(e[own] / sum(e))
    return total / len(z)


def problem(images: int, bank: int, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(images * 100 + bank)
    z, rows = (normalize(torch.randn(n, dim, dtype=torch.float64, generator=generator)) for n in (images, bank))
    return z.requires_grad_(), rows, torch.randint(bank, (images,), generator=generator)


@pytest.mark.parametrize("images", [1, 6])
@pytest.mark.parametrize("bank", [1, 13, 32])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.3, 1.0])
def test_equals_the_paper_in_value_and_gradient(images: int, bank: int, temperature: float) -> None:
    z, rows, index = problem(images, bank)
    loss = row_softmax(z, rows, index, temperature, tile=4 * images)
    loss.backward()  # type: ignore[no-untyped-call]
    plain = z.tolist()
    expected = oracle(plain, rows.tolist(), index.tolist(), temperature).real
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)
    assert z.grad is not None
    for i in range(images):
        for d in range(5):
            moved = [list(row) for row in plain]
            moved[i][d] += 1e-30j
            slope = oracle(moved, rows.tolist(), index.tolist(), temperature).imag / 1e-30
            assert float(z.grad[i, d]) == pytest.approx(slope, abs=1e-9)


def test_gradcheck() -> None:
    z, rows, index = problem(3, 8, dim=4)
    assert torch.autograd.gradcheck(lambda z: row_softmax(z, rows, index, 0.3, tile=9), z)


def test_chance_level() -> None:
    same = normalize(torch.ones(30, 3, dtype=torch.float64))
    assert float(row_softmax(same[:4], same, torch.arange(4), 0.07)) == pytest.approx(math.log(30))
