"""NT-Xent with a memory against plain loops: SimCLR's equation 1 with SimCLR v2's further negatives (section 2)."""

import math

import pytest
import torch
from torch import Tensor

from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.losses.nt_xent_tiled import nt_xent_tiled
from tests.oracle import paper
from tests.oracle.agree import agree_with_slope


def unit_rows(count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, dim, dtype=torch.float64, generator=generator)
    return torch.nn.functional.normalize(rows, dim=1).to(dtype)


def value_and_gradient(loss: Tensor, z: Tensor) -> tuple[float, Tensor]:
    (slope,) = torch.autograd.grad(3 * loss, z)
    return float(loss.detach()), slope / 3


@pytest.mark.parametrize(("images", "count"), [(1, 0), (1, 7), (2, 1), (2, 60), (5, 0), (5, 7)])
@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.1, 0.5, 1.0])
def test_dense_and_tiled_equal_the_paper(images: int, count: int, temperature: float) -> None:
    z, memory = unit_rows(2 * images, 6), unit_rows(count, 6, 1)
    agree_with_slope(
        "NT-Xent with a memory",
        z,
        lambda rows: paper.nt_xent(rows, temperature, memory.tolist()),
        lambda rows: nt_xent(rows, temperature, memory),
        lambda rows: nt_xent_tiled(rows, temperature, 1, memory),
        lambda rows: nt_xent_tiled(rows, temperature, 3, memory),
    )


@pytest.mark.parametrize(
    ("images", "count", "tile"),
    [(2, 1, 1), (2, 700, 80), (9, 33, 1), (9, 1, 7), (9, 700, 512), (40, 33, 7), (40, 700, 80), (40, 1, 512)],
)
@pytest.mark.parametrize("temperature", [0.02, 0.026, 1.0])
def test_tiled_equals_dense_with_ragged_tiles(images: int, count: int, tile: int, temperature: float) -> None:
    z, memory = unit_rows(2 * images, 16).requires_grad_(), unit_rows(count, 16, 1)
    expected, slope = value_and_gradient(nt_xent(z, temperature, memory), z)
    value, found = value_and_gradient(nt_xent_tiled(z, temperature, tile, memory), z)
    assert value == pytest.approx(expected, abs=1e-10)
    torch.testing.assert_close(found, slope, atol=1e-10, rtol=0)


@pytest.mark.parametrize("count", [None, 300])
@pytest.mark.parametrize("temperature", [0.002, 0.02, 0.1])
def test_single_precision_stays_right_where_shifted_exponentials_vanish(count: int | None, temperature: float) -> None:
    """Rows far from all others: at 0.002 every exp((s - 1) / temperature) of theirs is zero in float32."""
    z = unit_rows(64, 256, 0, torch.float32).requires_grad_()
    memory = None if count is None else unit_rows(count, 256, 1, torch.float32)
    value, found = value_and_gradient(nt_xent_tiled(z, temperature, 8, memory), z)
    exact, constant = z.detach().double().requires_grad_(), None if memory is None else memory.double()
    expected, slope = value_and_gradient(nt_xent(exact, temperature, constant), exact)
    assert value == pytest.approx(expected, rel=1e-4)
    assert math.isfinite(value)
    torch.testing.assert_close(found.double(), slope, atol=1e-3 * float(slope.abs().max()), rtol=0)


@pytest.mark.parametrize("tile", [4, 512])
def test_the_memory_gets_no_gradient(tile: int) -> None:
    z, memory = unit_rows(8, 5).requires_grad_(), unit_rows(20, 5, 1).requires_grad_()
    nt_xent_tiled(z, 0.1, tile, memory).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert memory.grad is None


def test_no_memory_is_the_plain_loss_to_the_last_bit() -> None:
    z, none = unit_rows(40, 8).requires_grad_(), unit_rows(0, 8)
    for tile in (7, 512):
        value, slope = value_and_gradient(nt_xent_tiled(z, 0.1, tile), z)
        empty, empty_slope = value_and_gradient(nt_xent_tiled(z, 0.1, tile, none), z)
        assert value == empty
        assert torch.equal(slope, empty_slope)


def test_chance_level_and_a_memory_of_strangers() -> None:
    same = torch.nn.functional.normalize(torch.ones(8, 3, dtype=torch.float64), dim=1)
    assert float(nt_xent_tiled(same, 0.5, 2, same[:5])) == pytest.approx(math.log(7 + 5))
    axes = torch.eye(9, dtype=torch.float64)
    apart, strangers = axes[:4].repeat(2, 1), axes[4:]
    assert float(nt_xent_tiled(apart, 0.05, 2, strangers)) == pytest.approx(0, abs=1e-7)
    assert float(nt_xent_tiled(apart, 0.05, 2, apart[:4])) == pytest.approx(math.log(2), abs=1e-7)
