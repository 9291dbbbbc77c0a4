"""InfoNCE over a queue, the loss of MoCo (He et al. 2020, arXiv 1911.05722, equation 1)."""

import torch
from torch import Tensor


def info_nce(q: Tensor, k: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Mean over queries of -log softmax at the query's own key, among that key and all negatives.

    Args:
        q: unit queries `(N,D)`.
        k: their unit keys `(N,D)`, without gradient.
        negatives: unit keys of other images `(K,D)`: the queue as it was before this step.
        temperature: divides every similarity.

    Returns:
        Scalar; `log(K + 1)` where nothing is told apart.
    """
    positive = (q * k).sum(1, keepdim=True) / temperature
    logits = q @ negatives.T / temperature
    return (torch.logaddexp(positive, logits.logsumexp(1, keepdim=True)) - positive).mean()
