"""Losses that work through tiles against their dense twins, and against the memory they promise."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_cli.losses.invariant_spread import invariant_spread
from ssl_cli.losses.nce import EPS, nce
from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.losses.nt_xent_tiled import EXTRA_TILES, add_negatives, local_log_sum_exp, nt_xent_local, nt_xent_tiled
from ssl_cli.losses.row_softmax import row_softmax
from tests.oracle import dense

Loss = Callable[[Tensor], Tensor]
TEMPERATURES = [0.05, 0.1, 1.0]


def unit_rows(count: int, dim: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator), dim=1).to(dtype)


def rows_of(count: int, *shape: int) -> Tensor:
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(count))


def nce_dense(z: Tensor, bank: Tensor, index: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """As the official code computes it: everything gathered, probabilities, divisions."""
    rows = torch.cat([index[:, None], noise], 1)
    p = torch.bmm(bank[rows], z[:, :, None])[..., 0].div(temperature).exp()
    p = p / (p.detach().mean() * len(bank))
    share = noise.shape[1] / len(bank)
    own, other = p[:, 0] / (p[:, 0] + share + EPS), share / (p[:, 1:] + share + EPS)
    return -(own.log().sum() + other.log().sum()) / len(z)


def compare(tiled: Loss, whole: Loss, z: Tensor, tolerance: float) -> None:
    a, b = z.clone().requires_grad_(), z.double().requires_grad_()
    value, expected = tiled(a), whole(b)
    (3 * value).backward()  # type: ignore[no-untyped-call]
    (3 * expected).backward()  # type: ignore[no-untyped-call]
    assert value.dtype == z.dtype
    assert a.grad is not None
    assert b.grad is not None
    assert float(value.detach()) == pytest.approx(float(expected.detach()), abs=tolerance, rel=tolerance)
    torch.testing.assert_close(a.grad.double(), b.grad, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("tile", [1, 500, 1600, 2**22])
def test_nce(tile: int, temperature: float, dtype: torch.dtype, tolerance: float) -> None:
    z, bank = unit_rows(7, 16, 0, dtype), unit_rows(90, 16, 1, dtype)
    index, noise = rows_of(90, 7), rows_of(90, 7, 30)
    compare(
        lambda z: nce(z, bank, index, noise, temperature, tile=tile)[0],
        lambda z: nce_dense(z, bank.double(), index, noise, temperature),
        z,
        tolerance,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("tile", [1, 50, 629, 2**22])
def test_row_softmax(tile: int, temperature: float, dtype: torch.dtype, tolerance: float) -> None:
    z, bank, index = unit_rows(7, 16, 0, dtype), unit_rows(90, 16, 1, dtype), rows_of(90, 7)
    compare(
        lambda z: row_softmax(z, bank, index, temperature, tile),
        lambda z: F.cross_entropy(z @ bank.double().T / temperature, index),
        z,
        tolerance,
    )


def leave_one_out(z: Tensor, rows: Tensor, index: Tensor, own: Tensor, temperature: float) -> Tensor:
    """The softmax over all rows but one, with the whole matrix."""
    logits = z @ rows.T / temperature
    return F.cross_entropy(logits.scatter(1, own[:, None], -torch.inf), index)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("temperature", [0.02, *TEMPERATURES])
@pytest.mark.parametrize("tile", [1, 50, 629, 2**22])
def test_row_softmax_without_an_excluded_row(
    tile: int, temperature: float, dtype: torch.dtype, tolerance: float
) -> None:
    """Excluded rows at both ends of blocks, alone in one, the same one for two embeddings; near enough to matter."""
    own = torch.tensor([0, 6, 7, 13, 89, 89, 40])
    rows = unit_rows(90, 16, 1)
    z = F.normalize(unit_rows(7, 16, 0) + rows[own], dim=1).to(dtype)
    rows, index = rows.to(dtype), (own + 1 + rows_of(89, 7)) % 90
    assert not bool((own == index).any())
    compare(
        lambda z: row_softmax(z, rows, index, temperature, tile, own),
        lambda z: leave_one_out(z, rows.double(), index, own, temperature),
        z,
        tolerance,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("tile", [1, 100, 333, 2**22])
def test_invariant_spread(tile: int, temperature: float, dtype: torch.dtype, tolerance: float) -> None:
    compare(
        lambda z: invariant_spread(z, temperature, tile),
        lambda z: dense.invariant_spread(z, temperature),
        unit_rows(26, 16, 0, dtype),
        tolerance,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("temperature", [0.02, *TEMPERATURES])
@pytest.mark.parametrize("tile", [1, 5, 26, 512])
def test_nt_xent_with_a_memory(tile: int, temperature: float, dtype: torch.dtype, tolerance: float) -> None:
    z, memory = unit_rows(26, 16, 0, dtype), unit_rows(90, 16, 1, dtype)
    compare(
        lambda z: nt_xent_tiled(z, temperature, tile, memory),
        lambda z: nt_xent(z, temperature, memory.double()),
        z,
        tolerance,
    )


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most numbers in any one tensor that an operation returned."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple | list) else (result,):
            if isinstance(one, Tensor):
                self.numel = max(self.numel, one.numel())
        return result


def memory(loss: Loss, z: Tensor) -> tuple[int, int]:
    """Numbers in the largest tensor of forward and backward, and all that autograd keeps between them."""
    kept = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel()
        return tensor

    z = z.clone().requires_grad_()
    largest = Largest()  # type: ignore[no-untyped-call]
    with largest, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss(z).backward()  # type: ignore[no-untyped-call]
    return largest.numel, kept


def test_nce_never_gathers_all_its_rows() -> None:
    z, bank, index, noise = unit_rows(64, 32, 0), unit_rows(200, 32, 1), rows_of(200, 64), rows_of(200, 64, 100)
    largest, kept = memory(lambda z: nce(z, bank, index, noise, 0.1, tile=4 * 101 * 32)[0], z)
    scores = 64 * 101
    assert largest <= 4 * 101 * 32
    assert kept <= bank.numel() + 6 * scores
    assert memory(lambda z: nce_dense(z, bank, index, noise, 0.1), z)[0] == scores * 32  # what the twin needs


def test_row_softmax_forms_no_matrix() -> None:
    z, bank, index = unit_rows(64, 8, 0), unit_rows(500, 8, 1), rows_of(500, 64)
    for own in (None, (index + 1) % 500):
        largest, kept = memory(
            partial(row_softmax, rows=bank, index=index, temperature=0.1, tile=64 * 30, excluded=own), z
        )
        assert largest <= bank.numel() < 64 * 500
        assert kept <= z.numel()


def test_invariant_spread_forms_no_matrix() -> None:
    z = unit_rows(256, 8, 0)
    largest, _ = memory(lambda z: invariant_spread(z, 0.1, tile=256 * 10), z)
    assert largest <= 256 * 10
    assert memory(lambda z: dense.invariant_spread(z, 0.1), z)[0] == 256 * 256


@pytest.mark.parametrize("temperature", [0.02, 0.1])
@pytest.mark.parametrize("rows", [16, 256])
def test_nt_xent_forms_no_matrix_over_its_memory(rows: int, temperature: float) -> None:
    """Also where the batch alone would fit a tile."""
    z, extra = unit_rows(rows, 8, 0), unit_rows(4096, 8, 1)
    largest, kept = memory(lambda z: nt_xent_tiled(z, temperature, 16, extra), z)
    assert largest <= max(EXTRA_TILES * 16 * 16, z.numel(), extra.numel())
    assert extra.numel() < rows * len(extra)
    assert kept <= 2 * z.numel() + 2 * rows
    assert memory(lambda z: nt_xent(z, temperature, extra), z)[0] == rows * (rows + len(extra))


@pytest.mark.parametrize("temperature", [0.002, 0.01])
def test_the_bank_s_losses_stay_finite_where_exponentials_do_not(temperature: float) -> None:
    z, bank = unit_rows(4, 8, 0, torch.float32), unit_rows(50, 8, 1, torch.float32)
    index, noise = rows_of(50, 4), rows_of(50, 4, 20)
    assert not bool((z @ bank.T / temperature).exp().isfinite().all()) or temperature > 0.005
    for loss in (
        nce(z.requires_grad_(), bank, index, noise, temperature)[0],
        row_softmax(z, bank, index, temperature),
        row_softmax(z, bank, index, temperature, tile=4, excluded=(index + 1) % 50),
    ):
        (slope,) = torch.autograd.grad(loss, z)
        assert math.isfinite(float(loss.detach()))
        assert bool(slope.isfinite().all())


def test_the_bank_gets_no_gradient() -> None:
    z, bank = unit_rows(4, 8, 0).requires_grad_(), unit_rows(50, 8, 1).requires_grad_()
    index, noise = rows_of(50, 4), rows_of(50, 4, 20)
    (nce(z, bank, index, noise, 0.1)[0] + row_softmax(z, bank, index, 0.1)).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert bank.grad is None


@pytest.mark.parametrize("temperature", [0.01, 0.1])
@pytest.mark.parametrize("memory", [0, 70])
def test_nt_xent_of_local_rows(temperature: float, memory: int) -> None:
    """The ranks' gradients add up to the whole."""
    torch.manual_seed(0)
    z = F.normalize(torch.randn(46, 8, dtype=torch.float64), dim=1)
    extra = F.normalize(torch.randn(memory, 8, dtype=torch.float64), dim=1) if memory else None
    whole = z.clone().requires_grad_()
    nt_xent(whole, temperature, extra).backward()  # type: ignore[no-untyped-call]
    parts = torch.split(torch.randperm(46), [20, 26])
    logs, extra_grad = torch.empty(46, dtype=torch.float64), torch.zeros(46, 8, dtype=torch.float64)
    for local in parts:
        logs[local] = local_log_sum_exp(z, local, temperature, 4)
        if extra is not None:
            logs[local], extra_grad[local] = add_negatives(z[local], extra, logs[local], temperature, 4, rows=46)
    total = torch.zeros_like(z)
    for local in parts:
        rows = z.clone().requires_grad_()
        value = nt_xent_local(rows, logs, temperature, local, extra_grad[local] if memory else None, 4)
        torch.testing.assert_close(value.detach(), nt_xent(z, temperature, extra), atol=1e-10, rtol=0)
        (grad,) = torch.autograd.grad(value, rows)
        assert not grad[[k for k in range(46) if k not in local.tolist()]].any()
        total += grad
    torch.testing.assert_close(total, whole.grad, atol=1e-10, rtol=0)
