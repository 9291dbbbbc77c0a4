"""The exact softmax over a memory bank: InstDisc (Wu et al. 2018, arXiv 1805.01978) where the bank is small enough."""

from typing import Any

import torch
from torch import Tensor

# Similarities formed at once: 16 MB in float32, whatever the batch and the bank.
TILE = 2**22


def bank_softmax(z: Tensor, bank: Tensor, index: Tensor, temperature: float, tile: int = TILE) -> Tensor:
    """Mean over rows of -log softmax at the embedding's own row, among all rows of the bank: equations 2 and 3.

    The bank is read once, a block at a time: a sum of exponentials and the rows weighted by them are carried along,
    relative to the highest similarity so far. Their quotient is the gradient, so backward has nothing left to do and
    the N x n similarities never exist. Memory O(N*D + tile).

    Args:
        z: unit embeddings `(N,D)`; the only input that gets a gradient.
        bank: unit rows `(n,D)`, one per image of the data set, as they were before this step.
        index: int64 `(N,)`, each embedding's own row.
        temperature: divides every similarity.
        tile: similarities at a time.

    Returns:
        Scalar; `log(n)` where nothing is told apart.
    """
    loss: Tensor = _BankSoftmax.apply(z, bank, index, temperature, tile)
    return loss


class _BankSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, bank: Tensor, index: Tensor, temperature: float, tile: int) -> Tensor:
        highest = z.new_full((len(z), 1), -torch.inf)
        total, pull = torch.zeros_like(highest), torch.zeros_like(z)
        for rows in torch.split(bank, max(1, tile // len(z))):
            logits = (z @ rows.T).div_(temperature)
            peak = torch.maximum(highest, logits.amax(1, keepdim=True))
            e = logits.sub_(peak).exp_()
            rescale = (highest - peak).exp_()
            total.mul_(rescale).add_(e.sum(1, keepdim=True))
            pull.mul_(rescale).addmm_(e, rows)
            highest = peak
        own = bank[index]
        ctx.save_for_backward(pull.div_(total).sub_(own).div_(temperature * len(z)))
        return (highest + total.log()).mean() - (z * own).sum() / (temperature * len(z))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * outer[0], None, None, None, None
