"""NT-Xent, the loss of SimCLR (Chen et al. 2020, arXiv 2002.05709, equation 1): the dense reference."""

import torch
from torch import Tensor
from torch.nn import functional as F


def nt_xent(
    z: Tensor,
    temperature: float,
    extra: Tensor | None = None,
    group: Tensor | None = None,
    extra_group: Tensor | None = None,
) -> Tensor:
    """Compute the mean over all 2N rows of -log softmax at the other view, over all rows but itself and `extra`.

    Args:
        z: unit rows `(2N,D)`, first views then second views; rows i and i + N are one image.
        temperature: divides every similarity.
        extra: unit rows `(K,D)`, constants, that are further negatives of every row: a memory.
        group: int64 `(2N,)`, the group of each row; other images of a row's group are left out. None: no groups.
        extra_group: int64 `(K,)`, the group of each row of `extra`, where there are groups.

    Returns:
        Scalar; without groups `log(2N - 1 + K)` where all similarities are equal. Memory O(N^2 + N*K).
    """
    rows = len(z)
    logits = z @ z.T / temperature
    logits.fill_diagonal_(-torch.inf)  # a row is not its own negative
    if group is not None:
        leave_out_group(logits, group, slice(None), slice(None))
    if extra is not None:
        further = z @ extra.detach().T / temperature
        if group is not None and extra_group is not None:
            further = further.masked_fill(group[:, None] == extra_group, -torch.inf)
        logits = torch.cat([logits, further], 1)
    positives = (torch.arange(rows, device=z.device) + rows // 2) % rows
    return F.cross_entropy(logits, positives)


def leave_out_group(logits: Tensor, group: Tensor, rows: Tensor | slice, columns: slice) -> Tensor:
    """Set the logits of other images of a row's group to -inf, in place; those of its own image stay.

    Args:
        logits: `(m,n)`, some rows of a batch against some.
        group: int64 `(2N,)`, the group of each row of the batch; rows i and i + N are one image.
        rows: those of `logits`.
        columns: those of `logits`.
    """
    image = torch.arange(len(group), device=group.device) % (len(group) // 2)
    other = image[rows, None] != image[columns]
    return logits.masked_fill_(other & (group[rows, None] == group[columns]), -torch.inf)
