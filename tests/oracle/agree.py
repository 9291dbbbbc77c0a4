"""How ours is held against an oracle, and how far apart they ever were (`python -m tests.bench.oracle_errors`)."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.oracle.slope import slope

LIMIT = 1e-9
LARGEST: dict[str, float] = {}
"""The largest error so far, by name."""
COMPARED: Counter[str] = Counter()
"""How many numbers were compared."""


def agree(name: str, ours: Tensor | float, oracle: Any) -> None:
    """Assert that ours, in float64, is within `LIMIT` of the oracle's numbers: relatively, absolutely below 1."""
    found = ours if isinstance(ours, Tensor) else torch.tensor(ours, dtype=torch.float64)
    wanted = torch.tensor(oracle, dtype=torch.float64)
    assert found.dtype == torch.float64, f"{name}: {found.dtype}"
    assert found.shape == wanted.shape, f"{name}: {tuple(found.shape)} for {tuple(wanted.shape)}"
    error = float(((found.detach() - wanted).abs() / wanted.abs().clamp(min=1)).max())
    assert error < LIMIT, f"{name}: {error:.1e}"
    COMPARED[name] += wanted.numel()
    LARGEST[name] = max(error, LARGEST.get(name, 0.0))


def agree_with_slope(
    name: str, z: Tensor, oracle: Callable[[list[list[complex]]], complex], *losses: Callable[[Tensor], Tensor]
) -> None:
    """Hold each loss of rows z against the oracle, in value and gradient."""
    plain: list[list[float]] = z.tolist()
    value, gradient = oracle([[complex(x) for x in row] for row in plain]).real, slope(oracle, plain)
    for loss in losses:
        rows = z.clone().requires_grad_()
        found = loss(rows)
        (3 * found).backward()  # type: ignore[no-untyped-call]
        assert rows.grad is not None
        agree(name, found, value)
        agree(f"{name}: gradient", rows.grad / 3, gradient)
