"""SimCLR v2's loss with a memory in plain loops, as its author has it (simclr#115).

A view of an image is to find the other view's key, against both keys of every other image of the batch and the memory.
"""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssl_cli.config.methods import SimCLRv2Settings
from ssl_cli.losses.row_softmax import row_softmax
from ssl_cli.methods.simclr_v2 import SimCLRv2
from ssl_cli.objective import Batch

Row = list[float]
DIM = 6


def dot(a: Row, b: Row) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def met_by(image: int, view: int, keys: list[list[Row]], memory: list[Row]) -> list[Row]:
    """What one view of one image is compared with, the key it is to find before all others."""
    others = [key for other, both in enumerate(keys) if other != image for key in both]
    return [keys[image][1 - view], *others, *memory]


def oracle(z: list[list[Row]], keys: list[list[Row]], memory: list[Row], temperature: float) -> float:
    total = 0.0
    for image, both in enumerate(z):
        for view, row in enumerate(both):
            e = [math.exp(dot(row, met) / temperature) for met in met_by(image, view, keys, memory)]
            total -= math.log(e[0] / math.fsum(e))
    return total / (2 * len(z))


def oracle_gradient(
    z: list[list[Row]], keys: list[list[Row]], memory: list[Row], temperature: float
) -> list[list[Row]]:
    """By hand: the mean of all that is met, by their shares of the softmax, less the key to be found."""
    slope = [[[0.0] * DIM for _ in both] for both in z]
    for image, both in enumerate(z):
        for view, row in enumerate(both):
            all_met = met_by(image, view, keys, memory)
            e = [math.exp(dot(row, met) / temperature) for met in all_met]
            for d in range(DIM):
                mean = math.fsum(share * met[d] for share, met in zip(e, all_met, strict=True)) / math.fsum(e)
                slope[image][view][d] = (mean - all_met[0][d]) / (temperature * 2 * len(z))
    return slope


def problem(images: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings `(N,2,D)`, keys like them `(N,2,D)`, a memory `(K,D)`."""
    generator = torch.Generator().manual_seed(100 * images + count)
    z = torch.randn(images, 2, DIM, dtype=torch.float64, generator=generator)
    keys = z + torch.randn(z.shape, dtype=torch.float64, generator=generator)
    memory = torch.randn(count, DIM, dtype=torch.float64, generator=generator)
    return normalize(z, dim=2), normalize(keys, dim=2), normalize(memory, dim=1)


def test_the_gradient_by_hand_is_the_slope_of_the_value() -> None:
    z, keys, memory = (rows.tolist() for rows in problem(3, 5))
    slope = oracle_gradient(z, keys, memory, 0.3)
    for image in range(3):
        for view in range(2):
            for d in range(DIM):
                at, values = z[image][view][d], []
                for moved in (at + 1e-5, at - 1e-5):
                    z[image][view][d] = moved
                    values.append(oracle(z, keys, memory, 0.3))
                z[image][view][d] = at
                assert slope[image][view][d] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 7, 90])
@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.1, 0.5, 1.0])
def test_loss_and_gradient_equal_the_plain_loops(images: int, count: int, temperature: float) -> None:
    z, keys, memory = problem(images, count)
    cfg = SimCLRv2Settings(memory=count, temperature=temperature, head_layers=0)
    ours = SimCLRv2(nn.Identity(), DIM, cfg)
    assert ours.queue is not None
    ours.queue.rows = memory
    expected = oracle(z.tolist(), keys.tolist(), memory.tolist(), temperature)
    slope = torch.tensor(oracle_gradient(z.tolist(), keys.tolist(), memory.tolist(), temperature), dtype=torch.float64)

    rows = z.transpose(0, 1).flatten(0, 1).requires_grad_()  # as the engine has them: view by view
    candidates, own = torch.cat([keys[:, 0], keys[:, 1], memory]), torch.arange(2 * images)
    batch = Batch([], torch.full((images,), -1), torch.arange(images))
    for loss in (
        ours.loss(rows, keys, batch),
        row_softmax(rows, candidates, (own + images) % (2 * images), temperature, 1, own),
        row_softmax(rows, candidates, (own + images) % (2 * images), temperature, 2 * images * 3, own),
    ):
        (found,) = torch.autograd.grad(3 * loss, rows)
        assert float(loss.detach()) == pytest.approx(expected, abs=1e-9)
        torch.testing.assert_close(found / 3, torch.cat([slope[:, 0], slope[:, 1]]), atol=1e-9, rtol=0)
