"""InvaSpread's loss against the official code's words (BatchAverage.py) in plain loops."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ssl_cli.losses.invariant_spread import invariant_spread
from tests.oracle import dense, paper
from tests.oracle.agree import agree_with_slope


def embeddings(images: int, dim: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(images)
    return normalize(torch.randn(2 * images, dim, dtype=torch.float64, generator=generator))


@pytest.mark.parametrize("images", [1, 2, 5, 7])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0])
def test_dense_and_tiled_equal_the_code_in_value_and_gradient(images: int, temperature: float) -> None:
    z = embeddings(images)
    agree_with_slope(
        "InvaSpread",
        z,
        lambda rows: paper.invariant_spread(rows, z.tolist(), temperature),
        lambda rows: invariant_spread(rows, temperature),
        lambda rows: dense.invariant_spread(rows, temperature),
        lambda rows: invariant_spread(rows, temperature, tile=3 * len(z)),
        lambda rows: torch.stack(
            [
                invariant_spread(rows, temperature, rows=local) * len(local) / len(z)
                for local in torch.arange(len(z)).tensor_split(3)
                if len(local)
            ]
        ).sum(),
    )


def test_chance_level_and_one_image() -> None:
    same = normalize(torch.ones(8, 3, dtype=torch.float64))
    assert float(invariant_spread(same, 0.5)) == pytest.approx(math.log(7) + 6 * math.log(7 / 6))
    alone = embeddings(1).requires_grad_()
    value = invariant_spread(alone, 0.5)
    value.backward()  # type: ignore[no-untyped-call]
    assert alone.grad is not None
    assert float(value.detach()) == pytest.approx(0, abs=1e-12)
    assert float(alone.grad.abs().max()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.002, 0.05])
def test_a_negative_that_takes_all(temperature: float) -> None:
    """A row's twin is a negative, all else opposite: in float32 1 - P rounds to zero, its logarithm must not follow.

    By hand, but for terms of exp(-2 / temperature): log P(positive) = -2 / temperature, log(1 - P(twin)) = log 2 less
    the same; the slopes are 2 at the twin, -3/2 at the positive, -1/2 at the third.
    """
    z = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]], requires_grad=True)
    value = invariant_spread(z, temperature)
    value.backward()  # type: ignore[no-untyped-call]
    assert float(value.detach()) == pytest.approx(4 / temperature - math.log(2), rel=1e-5)
    torch.testing.assert_close(z.grad, z.detach() / temperature, atol=0, rtol=1e-4)
