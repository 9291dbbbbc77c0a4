"""NT-Xent, the loss of SimCLR (Chen et al. 2020, arXiv 2002.05709, equation 1): the dense reference."""

import torch
from torch import Tensor
from torch.nn import functional as F


def nt_xent(z: Tensor, temperature: float, extra: Tensor | None = None) -> Tensor:
    """Compute the mean over all 2N rows of -log softmax at the other view, over all rows but itself and `extra`.

    Args:
        z: unit rows `(2N,D)`, first views then second views; rows i and i + N are one image.
        temperature: divides every similarity.
        extra: unit rows `(K,D)`, constants, that are further negatives of every row: a memory.

    Returns:
        Scalar; `log(2N - 1 + K)` where all similarities are equal. Memory O(N^2 + N*K).
    """
    rows = len(z)
    logits = z @ z.T / temperature
    logits.fill_diagonal_(-torch.inf)  # a row is not its own negative
    if extra is not None:
        logits = torch.cat([logits, z @ extra.detach().T / temperature], 1)
    positives = (torch.arange(rows, device=z.device) + rows // 2) % rows
    return F.cross_entropy(logits, positives)
