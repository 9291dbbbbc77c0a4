"""The exact softmax over given rows: InstDisc's memory bank where it is small enough, SimCLR v2's momentum keys.

Wu et al. 2018, arXiv 1805.01978, equations 2 and 3; Chen et al. 2020, arXiv 2006.10029, section 2.
"""

from typing import Any

import torch
from torch import Tensor

from ssl_cli.losses.info_nce import Groups

TILE = 2**22
"""Similarities that are computed at once: 16 MB in float32, whatever the batch and the number of rows."""


def row_softmax(
    z: Tensor, rows: Tensor, index: Tensor, temperature: float, tile: int = TILE, excluded: Tensor | None = None,
    groups: Groups | None = None,
) -> Tensor:  # fmt: skip
    """Compute the mean over embeddings of -log softmax at each one's target row, over all rows but its excluded one.

    The rows are read once, a block at a time; the sum of exponentials and the rows weighted by them are accumulated
    relative to the largest similarity so far. Their quotient is the gradient, so the backward pass computes nothing and
    the N x n similarities are never stored. Memory O(N*D + tile).

    Args:
        z: unit embeddings `(N,D)`; the only input that gets a gradient.
        rows: unit rows `(n,D)`, constants: the bank as it was before this step, or keys.
        index: int64 `(N,)`, the target row of each embedding.
        temperature: divides every similarity.
        tile: similarities at a time.
        excluded: int64 `(N,)`, a row other than the target that is left out of the embedding's softmax; None: none.
        groups: of the embeddings and of the rows; rows of an embedding's group, but its target, are left out. None: no
            groups.

    Returns:
        Scalar; the log of the number of rows in the softmax where all similarities are equal.
    """
    loss: Tensor = _RowSoftmax.apply(z, rows, index, temperature, tile, excluded, groups)
    return loss


class _RowSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, rows: Tensor, index: Tensor, temperature: float, tile: int, excluded: Tensor | None,
        groups: Groups | None,
    ) -> Tensor:  # fmt: skip
        largest = z.new_full((len(z), 1), torch.finfo(z.dtype).min)  # finite: a block may hold excluded rows alone
        total, weighted = torch.zeros_like(largest), torch.zeros_like(z)
        size = max(1, tile // len(z))
        for start, block in zip(range(0, len(rows), size), torch.split(rows, size), strict=True):
            logits = (z @ block.T).div_(temperature)
            if excluded is not None:
                _exclude(logits, excluded - start)
            if groups is not None:
                same = groups[0][:, None] == groups[1][start : start + size]
                logits.masked_fill_(_without(same, index - start), -torch.inf)
            peak = torch.maximum(largest, logits.amax(1, keepdim=True))
            e = logits.sub_(peak).exp_()
            rescale = (largest - peak).exp_()
            total.mul_(rescale).add_(e.sum(1, keepdim=True))
            weighted.mul_(rescale).addmm_(e, block)
            largest = peak
        target = rows[index]
        ctx.save_for_backward(weighted.div_(total).sub_(target).div_(temperature * len(z)))
        return (largest + total.log()).mean() - (z * target).sum() / (temperature * len(z))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * outer[0], None, None, None, None, None, None


def _exclude(logits: Tensor, column: Tensor) -> None:
    """Set one column `(N,)` of each row of the block `(N,n)` to -inf, where the block has it, without a host sync."""
    inside = column.clamp(0, logits.shape[1] - 1)[:, None]
    unchanged = logits.gather(1, inside)
    logits.scatter_(1, inside, unchanged.masked_fill_(inside == column[:, None], -torch.inf))


def _without(same: Tensor, column: Tensor) -> Tensor:
    """Set one column `(N,)` of each row of the block `(N,n)` to false, where the block has it, without a host sync."""
    inside = column.clamp(0, same.shape[1] - 1)[:, None]
    return same.scatter_(1, inside, same.gather(1, inside) & (inside != column[:, None]))
