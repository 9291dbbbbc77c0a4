"""InstDisc's noise-contrastive estimation against plain loops: equations 4 to 8 and 10, with the code's eps."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_cli.losses.nce import nce, proximal
from tests.oracle import paper
from tests.oracle.agree import agree, agree_with_slope


def problem(images: int, noise: int, bank: int, dim: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(images * 100 + noise)
    z, rows = (normalize(torch.randn(n, dim, dtype=torch.float64, generator=generator)) for n in (images, bank))
    index = torch.randperm(bank, generator=generator)[:images]
    drawn = torch.randint(bank, (images, noise), generator=generator)
    drawn[0, 0] = index[0]  # the own row may be among the noise
    return z, rows, index, drawn


@pytest.mark.parametrize("images", [1, 6])
@pytest.mark.parametrize("noise", [1, 7, 40])
@pytest.mark.parametrize("temperature", [0.05, 0.07, 0.2, 1.0])
@pytest.mark.parametrize("first_step", [True, False])
def test_equals_the_paper_in_value_gradient_and_constant(
    images: int, noise: int, temperature: float, first_step: bool
) -> None:
    z, bank, index, drawn = problem(images, noise, bank=11)
    rows, own_first = bank.tolist(), torch.cat([index[:, None], drawn], 1).tolist()
    Z = paper.nce_constant(z.tolist(), rows, own_first, temperature) if first_step else 37.5
    known = torch.tensor(math.nan if first_step else math.log(Z), dtype=torch.float64)
    log_Z = nce(z.requires_grad_(), bank, index, drawn, temperature, known)[1]
    assert not log_Z.requires_grad
    agree("NCE: the constant Z", log_Z.exp(), Z)
    agree_with_slope(
        "NCE over a memory bank",
        z.detach(),
        lambda v: paper.nce(v, rows, own_first, temperature, Z),
        lambda v: nce(v, bank, index, drawn, temperature, known)[0],
        lambda v: nce(v, bank, index, drawn, temperature, known, tile=2 * (noise + 1) * 5)[0],
    )


def test_chance_level() -> None:
    """Where all rows are alike each answer is a guess with K + 1 sides; eps weighs less than the tolerance."""
    same = normalize(torch.ones(30, 3, dtype=torch.float64))
    loss, log_Z = nce(same[:4], same, torch.arange(4), torch.arange(20).repeat(4, 1), 0.07)
    assert float(loss) == pytest.approx(math.log(21) + 20 * math.log(21 / 20), abs=1e-5)
    assert float(log_Z) == pytest.approx(math.log(30) + 1 / 0.07)


@pytest.mark.parametrize("images", [1, 4, 9])
def test_proximal_is_the_squared_distance_and_pulls_the_new_embedding_alone(images: int) -> None:
    z, bank, index, _ = problem(images, 1, bank=11)
    previous = bank[index].requires_grad_()
    plain = previous.tolist()
    agree_with_slope("proximal term", z, lambda v: paper.proximal(v, plain), lambda v: proximal(v, previous))
    assert previous.grad is None
