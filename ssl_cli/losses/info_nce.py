"""InfoNCE over a queue, the loss of MoCo (He et al. 2020, arXiv 1911.05722, equation 1), in O(N*D) memory."""

from typing import Any

import torch
from torch import Tensor

# Similarities formed at once: 64 MB in float32, whatever the batch and the queue.
TILE = 2**24


def info_nce(q: Tensor, k: Tensor, negatives: Tensor, temperature: float, tile: int = TILE) -> Tensor:
    """Mean over queries of -log softmax at the query's own key, among that key and all negatives.

    The gradient of a row needs nothing but the row's own softmax, so it is formed while the softmax is at hand, a
    block of queries at a time; the N x (K + 1) logits never exist.

    Args:
        q: unit queries `(N,D)`.
        k: their unit keys `(N,D)`, without gradient.
        negatives: unit keys of other images `(K,D)`: the queue as it was before this step.
        temperature: divides every similarity.
        tile: similarities at a time.

    Returns:
        Scalar; `log(K + 1)` where nothing is told apart.
    """
    loss: Tensor = _InfoNCE.apply(q, k, negatives, temperature, tile)
    return loss


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, negatives: Tensor, temperature: float, tile: int) -> Tensor:
        rows = max(1, tile // len(negatives))
        slope, total = torch.empty_like(q), q.new_zeros(())
        for start in range(0, len(q), rows):
            block = slice(start, start + rows)
            positive = (q[block] * k[block]).sum(1) / temperature
            logits = (q[block] @ negatives.T).div_(temperature)
            log_sum_exp = torch.logaddexp(positive, logits.logsumexp(1))
            total += (log_sum_exp - positive).sum()
            chance = logits.sub_(log_sum_exp[:, None]).exp_()  # each negative's share of the softmax
            missing = torch.expm1(positive - log_sum_exp)  # the positive's share, minus one
            slope[block] = (chance @ negatives).addcmul_(k[block], missing[:, None])
        ctx.save_for_backward(slope.div_(temperature * len(q)))
        return total / len(q)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * outer[0], None, None, None, None
