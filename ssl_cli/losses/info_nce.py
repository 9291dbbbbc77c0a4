"""InfoNCE over a queue, the loss of MoCo (He et al. 2020, arXiv 1911.05722, equation 1), in O(N*D) memory."""

from typing import Any

import torch
from torch import Tensor

Groups = tuple[Tensor, Tensor]
"""Numbers of the groups of some rows, int64 `(N,)`, and of those that they are compared with, int64 `(K,)`."""
TILE = 2**24
"""Similarities that are computed at once: 64 MB in float32, whatever the batch and the queue."""


def info_nce(
    q: Tensor, k: Tensor, negatives: Tensor, temperature: float, tile: int = TILE, groups: Groups | None = None
) -> Tensor:
    """Compute the mean over queries of -log softmax at the query's key, over that key and all negatives.

    A row's gradient depends on its own softmax alone, so it is computed in the forward pass, a block of queries at a
    time; the N x (K + 1) logits are never stored.

    Args:
        q: unit queries `(N,D)`.
        k: their unit keys `(N,D)`, without gradient.
        negatives: unit keys of other images `(K,D)`: the queue as it was before this step.
        temperature: divides every similarity.
        tile: similarities at a time.
        groups: of the queries and of the negatives; a query's negatives of its own group are left out. None: no groups.

    Returns:
        Scalar; without groups `log(K + 1)` where all similarities are equal.
    """
    loss: Tensor = _InfoNCE.apply(q, k, negatives, temperature, tile, groups)
    return loss


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, negatives: Tensor, temperature: float, tile: int, groups: Groups | None
    ) -> Tensor:
        rows = max(1, tile // len(negatives))
        grad, total = torch.empty_like(q), q.new_zeros(())
        for start in range(0, len(q), rows):
            block = slice(start, start + rows)
            positive = (q[block] * k[block]).sum(1) / temperature
            logits = (q[block] @ negatives.T).div_(temperature)
            if groups is not None:
                logits.masked_fill_(groups[0][block, None] == groups[1], -torch.inf)
            log_sum_exp = torch.logaddexp(positive, logits.logsumexp(1))
            total += (log_sum_exp - positive).sum()
            p = logits.sub_(log_sum_exp[:, None]).exp_()  # probability of each negative
            missing = torch.expm1(positive - log_sum_exp)  # probability of the key, minus one
            grad[block] = (p @ negatives).addcmul_(k[block], missing[:, None])
        ctx.save_for_backward(grad.div_(temperature * len(q)))
        return total / len(q)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * outer[0], None, None, None, None, None
