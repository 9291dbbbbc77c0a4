"""The largest difference between the outputs of two implementations of an encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.errors import CheckpointError

TOLERANCE, COSINE = 1e-4, 0.9999
"""Largest difference, as a share of the largest value, and least cosine of a row, of the same float32 network."""
ROUNDED = {"float16": (0.02, 0.9995), "int8": (1.0, 0.9)}
"""The same for a network whose weights were rounded: what is worse is not the network that was trained."""


@dataclass(frozen=True)
class Agreement:
    """Differences between two implementations of an encoder.

    Attributes:
        max_error: max|a - b| / max|a|, the largest of all batches.
        cosine: the least of all rows.
        batch_sizes: that were compared, in ascending order.
    """

    max_error: float
    cosine: float
    batch_sizes: tuple[int, ...]


def agreement(
    wanted: Sequence[Tensor], found: Sequence[Tensor], what: str, hint: str, dtype: str = "float32"
) -> Agreement:
    """Compare outputs `(N,F)` batch by batch.

    Args:
        wanted: by torch.
        found: by what was written.
        what: to name it in an error.
        hint: of that error.
        dtype: type of the weights of what was written.

    Raises:
        CheckpointError: shapes differ, or it computes something else.
    """
    if any(a.shape != b.shape for a, b in zip(wanted, found, strict=True)):
        raise CheckpointError(f"{what} gives outputs of another shape than torch.", hint)
    errors, cosines = [], [torch.ones(1)]
    for a, b in zip(wanted, found, strict=True):
        errors.append((a - b).abs().max() / a.abs().max().clamp(min=torch.finfo(torch.float32).tiny))
        cosines.append(F.cosine_similarity(a, b)[a.norm(dim=1) > 0])  # a row of zeros has no direction
    largest, cosine = torch.stack(errors).max().item(), torch.cat(cosines).min().item()
    tolerance, least = ROUNDED.get(dtype, (TOLERANCE, COSINE))
    if not (largest <= tolerance and cosine >= least):  # so written that a value that is not a number fails
        difference = f"largest difference {largest:.1e} of the largest value, least cosine {cosine:.6f}"
        raise CheckpointError(f"{what} disagrees with torch: {difference}.", hint)
    return Agreement(largest, cosine, tuple(sorted({len(batch) for batch in wanted})))
