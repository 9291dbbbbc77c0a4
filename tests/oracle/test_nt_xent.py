"""NT-Xent by the paper's words, in plain loops: SimCLR, equation 1 and algorithm 1."""

import math

import pytest
import torch
from torch import Tensor

from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.losses.nt_xent_tiled import nt_xent_tiled


def oracle(z: list[list[float]], temperature: float) -> float:
    rows = len(z)
    images = rows // 2

    def similarity(i: int, j: int) -> float:
        return sum(a * b for a, b in zip(z[i], z[j], strict=True)) / temperature

    total = 0.0
    for i in range(rows):
        positive = i + images if i < images else i - images
        denominator = sum(math.exp(similarity(i, k)) for k in range(rows) if k != i)
        total -= math.log(math.exp(similarity(i, positive)) / denominator)
    return total / rows


def embeddings(images: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2 * images, dim, dtype=torch.float64, generator=generator)
    return torch.nn.functional.normalize(z, dim=1).requires_grad_()


@pytest.mark.parametrize("images", [1, 2, 5, 16])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 0.5, 1.0])
def test_dense_and_tiled_equal_the_paper(images: int, temperature: float) -> None:
    z = embeddings(images, 7)
    expected = oracle(z.tolist(), temperature)
    assert float(nt_xent(z, temperature).detach()) == pytest.approx(expected, abs=1e-9)
    assert float(nt_xent_tiled(z, temperature, tile=3).detach()) == pytest.approx(expected, abs=1e-9)


def test_gradient_by_finite_differences() -> None:
    z = embeddings(4, 5)
    nt_xent(z, 0.3).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    rows = z.tolist()
    for i in range(8):
        for d in range(5):
            up, down = [list(row) for row in rows], [list(row) for row in rows]
            up[i][d] += 1e-5
            down[i][d] -= 1e-5
            slope = (oracle(up, 0.3) - oracle(down, 0.3)) / 2e-5
            assert float(z.grad[i, d]) == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("images", [2, 9, 40])
@pytest.mark.parametrize("tile", [1, 4, 7, 80, 512])
@pytest.mark.parametrize("temperature", [0.02, 0.026, 0.2])
def test_tiled_equals_dense_with_ragged_tiles(images: int, tile: int, temperature: float) -> None:
    dense, tiled = embeddings(images, 16), embeddings(images, 16)
    a, b = nt_xent(dense, temperature), nt_xent_tiled(tiled, temperature, tile)
    (3 * a).backward()  # type: ignore[no-untyped-call]
    (3 * b).backward()  # type: ignore[no-untyped-call]
    assert dense.grad is not None
    assert tiled.grad is not None
    assert float(a.detach()) == pytest.approx(float(b.detach()), abs=1e-10)
    torch.testing.assert_close(dense.grad, tiled.grad, atol=1e-10, rtol=0)


def test_tiled_keeps_no_matrix() -> None:
    """What autograd holds for the tiled loss grows with M, not with M squared."""
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    z = embeddings(256, 8)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        nt_xent_tiled(z, 0.1, tile=64)
    assert sum(kept) <= 3 * z.numel()


def test_chance_level_and_perfection() -> None:
    same = torch.nn.functional.normalize(torch.ones(8, 3, dtype=torch.float64), dim=1)
    assert float(nt_xent(same, 0.5)) == pytest.approx(math.log(7))
    apart = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    assert float(nt_xent(apart, 0.05)) == pytest.approx(0, abs=1e-7)
