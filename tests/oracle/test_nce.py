"""InstDisc's noise-contrastive estimation by its words, in plain loops: equations 4 to 8 and 10, with the code's eps.

The oracles are analytic, so their exact slope is the imaginary part after a step along the imaginary axis.
"""

import cmath
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_cli.losses.nce import nce, proximal

Row = list[complex]


def dot(a: Row, b: Row) -> complex:
    return sum(x * y for x, y in zip(a, b, strict=True))


def constant(z: list[Row], bank: list[Row], rows: list[list[int]], temperature: float) -> float:
    """Equation 8, over the whole batch and with the own rows, as in NCEAverage.py."""
    every = [cmath.exp(dot(v, bank[j]) / temperature).real for v, own in zip(z, rows, strict=True) for j in own]
    return len(bank) * sum(every) / len(every)


def oracle(z: list[Row], bank: list[Row], rows: list[list[int]], temperature: float, Z: float) -> complex:
    """Equation 7; `rows` has an embedding's own row first, then its noise."""
    total = 0j
    for v, (own, *noise) in zip(z, rows, strict=True):
        share = len(noise) / len(bank)
        model = cmath.exp(dot(v, bank[own]) / temperature) / Z
        total -= cmath.log(model / (model + share + 1e-7))
        for j in noise:
            model = cmath.exp(dot(v, bank[j]) / temperature) / Z
            total -= cmath.log(share / (model + share + 1e-7))
    return total / len(z)


def problem(images: int, noise: int, bank: int, dim: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(images * 100 + noise)
    z, rows = (normalize(torch.randn(n, dim, dtype=torch.float64, generator=generator)) for n in (images, bank))
    index = torch.randperm(bank, generator=generator)[:images]
    drawn = torch.randint(bank, (images, noise), generator=generator)
    drawn[0, 0] = index[0]  # the own row may be among the noise
    return z.requires_grad_(), rows, index, drawn


@pytest.mark.parametrize("images", [1, 6])
@pytest.mark.parametrize("noise", [1, 7, 40])
@pytest.mark.parametrize("temperature", [0.05, 0.07, 0.2, 1.0])
@pytest.mark.parametrize("first_step", [True, False])
def test_equals_the_paper_in_value_gradient_and_constant(
    images: int, noise: int, temperature: float, first_step: bool
) -> None:
    z, bank, index, drawn = problem(images, noise, bank=11)
    plain, rows, own_first = z.tolist(), bank.tolist(), torch.cat([index[:, None], drawn], 1).tolist()
    Z = constant(plain, rows, own_first, temperature) if first_step else 37.5
    known = torch.tensor(math.nan if first_step else math.log(Z), dtype=torch.float64)
    loss, log_Z = nce(z, bank, index, drawn, temperature, known, tile=2 * (noise + 1) * 5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(log_Z) == pytest.approx(math.log(Z), abs=1e-9)
    assert not log_Z.requires_grad
    assert float(loss.detach()) == pytest.approx(oracle(plain, rows, own_first, temperature, Z).real, abs=1e-9)
    assert z.grad is not None
    for i in range(images):
        for d in range(5):
            moved = [list(row) for row in plain]
            moved[i][d] += 1e-30j
            slope = oracle(moved, rows, own_first, temperature, Z).imag / 1e-30
            assert float(z.grad[i, d]) == pytest.approx(slope, abs=1e-9)


def test_gradcheck() -> None:
    z, bank, index, drawn = problem(3, 9, bank=8, dim=4)
    log_Z = torch.tensor(2.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: nce(z, bank, index, drawn, 0.3, log_Z, tile=40)[0], z)


def test_chance_level() -> None:
    """Where all rows are alike each answer is a guess with K + 1 sides; eps weighs less than the tolerance."""
    same = normalize(torch.ones(30, 3, dtype=torch.float64))
    loss, log_Z = nce(same[:4], same, torch.arange(4), torch.arange(20).repeat(4, 1), 0.07)
    assert float(loss) == pytest.approx(math.log(21) + 20 * math.log(21 / 20), abs=1e-5)
    assert float(log_Z) == pytest.approx(math.log(30) + 1 / 0.07)


def test_proximal_is_the_squared_distance_and_pulls_the_new_embedding_alone() -> None:
    z, bank, index, _ = problem(4, 1, bank=11)
    previous = bank[index].requires_grad_()
    loss = proximal(z, previous)
    loss.backward()  # type: ignore[no-untyped-call]
    pairs = zip(z.tolist(), previous.tolist(), strict=True)
    expected = sum(sum((a - b) ** 2 for a, b in zip(new, old, strict=True)) for new, old in pairs) / 4
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)
    assert z.grad is not None
    torch.testing.assert_close(z.grad, 2 * (z - previous).detach() / 4, atol=1e-12, rtol=0)
    assert previous.grad is None
