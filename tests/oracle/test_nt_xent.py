"""NT-Xent against the paper in plain loops: SimCLR, equation 1 and algorithm 1."""

import math

import pytest
import torch
from torch import Tensor

from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.losses.nt_xent_tiled import local_log_sum_exp, nt_xent_local, nt_xent_tiled
from tests.oracle import paper
from tests.oracle.agree import agree_with_slope


def embeddings(images: int, dim: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2 * images, dim, dtype=torch.float64, generator=generator)
    return torch.nn.functional.normalize(z, dim=1)


@pytest.mark.parametrize("images", [1, 2, 5, 12])
@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.1, 0.5, 1.0])
def test_dense_and_tiled_equal_the_paper(images: int, temperature: float) -> None:
    z = embeddings(images, 7)
    agree_with_slope(
        "NT-Xent",
        z,
        lambda rows: paper.nt_xent(rows, temperature),
        lambda rows: nt_xent(rows, temperature),
        lambda rows: nt_xent_tiled(rows, temperature, tile=1),
        lambda rows: nt_xent_tiled(rows, temperature, tile=3),
    )


@pytest.mark.parametrize("temperature", [0.02, 0.1, 1.0])
def test_parts_of_several_ranks_equal_the_paper(temperature: float) -> None:
    z = embeddings(4, 7)
    mine, theirs = torch.tensor([6, 0, 3]), torch.tensor([1, 7, 2, 5, 4])

    def over_ranks(rows: Tensor) -> Tensor:
        logs = torch.empty(8, dtype=torch.float64)
        for local in (mine, theirs):
            logs[local] = local_log_sum_exp(rows.detach(), local, temperature, 2)
        return (
            nt_xent_local(rows, logs, temperature, mine, tile=2)
            + nt_xent_local(rows, logs, temperature, theirs, tile=2)
            - nt_xent(rows.detach(), temperature)
        )

    agree_with_slope("NT-Xent of several ranks", z, lambda rows: paper.nt_xent(rows, temperature), over_ranks)


@pytest.mark.parametrize(("images", "tile"), [(2, 1), (2, 4), (9, 1), (9, 7), (40, 7), (40, 80), (40, 512)])
@pytest.mark.parametrize("temperature", [0.02, 0.026, 0.2])
def test_tiled_equals_dense_with_ragged_tiles(images: int, tile: int, temperature: float) -> None:
    dense, tiled = (embeddings(images, 16).requires_grad_() for _ in range(2))
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

    z = embeddings(256, 8).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        nt_xent_tiled(z, 0.1, tile=64)
    assert sum(kept) <= 3 * z.numel()


def test_chance_level_and_perfection() -> None:
    same = torch.nn.functional.normalize(torch.ones(8, 3, dtype=torch.float64), dim=1)
    assert float(nt_xent(same, 0.5)) == pytest.approx(math.log(7))
    apart = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    assert float(nt_xent(apart, 0.05)) == pytest.approx(0, abs=1e-7)
