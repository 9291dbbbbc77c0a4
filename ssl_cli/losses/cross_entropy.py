"""Cross-entropy of logits with labels, and with the softmax of a teacher's logits."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Compute the mean cross-entropy of logits `(N,C)` over the rows that have a label `(N,)`, 0 or above.

    Without any such row it is 0, with a gradient of 0.
    """
    total = F.cross_entropy(logits, label, ignore_index=-1, reduction="sum")
    return total / (label >= 0).sum().clamp(min=1)


def soft_cross_entropy(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the mean over rows of -sum_y P(y) log Q(y): P is softmax(teacher / t) and Q is softmax(logits / t).

    Equation 2 of SimCLR v2 (arXiv 2006.10029). It is not multiplied by t^2, which is only in the official notebook.

    Args:
        logits: of the student `(N,C)`.
        teacher: its logits `(N,C)`, without gradient.
        temperature: t, of both.
    """
    wanted = (teacher.to(logits.dtype) / temperature).softmax(1)
    return -(wanted * (logits / temperature).log_softmax(1)).sum(1).mean()
