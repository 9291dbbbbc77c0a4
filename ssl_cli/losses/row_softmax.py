"""The exact softmax over given rows: InstDisc's memory bank where it is small enough, SimCLR v2's momentum keys.

Wu et al. 2018, arXiv 1805.01978, equations 2 and 3; Chen et al. 2020, arXiv 2006.10029, section 2.
"""

from typing import Any

import torch
from torch import Tensor

# Similarities formed at once: 16 MB in float32, whatever the batch and the rows.
TILE = 2**22


def row_softmax(
    z: Tensor, rows: Tensor, index: Tensor, temperature: float, tile: int = TILE, own: Tensor | None = None
) -> Tensor:
    """Mean over embeddings of -log softmax at the row each belongs to, among all rows but its own one.

    The rows are read once, a block at a time: a sum of exponentials and the rows weighted by them are carried along,
    relative to the highest similarity so far. Their quotient is the gradient, so backward has nothing left to do and
    the N x n similarities never exist. Memory O(N*D + tile).

    Args:
        z: unit embeddings `(N,D)`; the only input that gets a gradient.
        rows: unit rows `(n,D)`, constants: the bank as it was before this step, or keys.
        index: int64 `(N,)`, the row that each embedding is to find.
        temperature: divides every similarity.
        tile: similarities at a time.
        own: int64 `(N,)`, another row than `index`, which is no candidate for the embedding; None: all rows are.

    Returns:
        Scalar; the log of the number of candidates where nothing is told apart.
    """
    loss: Tensor = _RowSoftmax.apply(z, rows, index, temperature, tile, own)
    return loss


class _RowSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, z: Tensor, rows: Tensor, index: Tensor, temperature: float, tile: int, own: Tensor | None
    ) -> Tensor:
        highest = z.new_full((len(z), 1), torch.finfo(z.dtype).min)  # finite: a block may be none but an own row
        total, pull = torch.zeros_like(highest), torch.zeros_like(z)
        size = max(1, tile // len(z))
        for start, block in zip(range(0, len(rows), size), torch.split(rows, size), strict=True):
            logits = (z @ block.T).div_(temperature)
            if own is not None:
                _leave_out(logits, own - start)
            peak = torch.maximum(highest, logits.amax(1, keepdim=True))
            e = logits.sub_(peak).exp_()
            rescale = (highest - peak).exp_()
            total.mul_(rescale).add_(e.sum(1, keepdim=True))
            pull.mul_(rescale).addmm_(e, block)
            highest = peak
        target = rows[index]
        ctx.save_for_backward(pull.div_(total).sub_(target).div_(temperature * len(z)))
        return (highest + total.log()).mean() - (z * target).sum() / (temperature * len(z))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * outer[0], None, None, None, None, None


def _leave_out(logits: Tensor, column: Tensor) -> None:
    """Make -inf of one column `(N,)` of each row, where the block `(N,n)` has it; nothing waits for the device."""
    there = column.clamp(0, logits.shape[1] - 1)[:, None]
    kept = logits.gather(1, there)
    logits.scatter_(1, there, kept.masked_fill_(there == column[:, None], -torch.inf))
