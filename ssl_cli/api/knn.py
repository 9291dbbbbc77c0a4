"""Weighted nearest neighbours in Python: `ssl_cli.knn(bank, labels, queries)`."""

from typing import Any

import torch
from torch import Tensor

from ssl_cli.errors import UsageError
from ssl_cli.transfer.knn import Votes, default_k
from ssl_cli.transfer.knn import knn as vote


def knn(bank: Any, labels: Any, queries: Any, k: int | None = None, temperature: float = 0.1) -> Votes:
    """Let the k rows of the bank that are most similar to a query (cosine) vote on its class with weight exp(s / T).

    Wu et al. 2018, arXiv 1805.01978, section 3.4: what `sslcli knn-eval` computes. Exact, in bounded memory.

    Args:
        bank: `(B,F)` rows of labelled images, a tensor or an array.
        labels: whole numbers from 0, `(B,)`.
        queries: `(Q,F)`; they are moved to the bank's device.
        k: neighbours that vote; None: 200, or the size of the smallest class where that is less.
        temperature: T, positive.

    Returns:
        The votes: `answers`, int64 `(Q,)`, the class of each query, and `scores` `(Q, classes)`.

    Raises:
        UsageError: shapes that do not fit one another, labels that are no classes, numbers that are not finite, or a k
            or temperature that is not positive.
    """
    rows, label, asked = torch.as_tensor(bank), torch.as_tensor(labels), torch.as_tensor(queries)
    if rows.ndim != 2 or asked.ndim != 2 or rows.shape[1] != asked.shape[1] or label.shape != rows.shape[:1]:
        shapes = f"bank {tuple(rows.shape)}, labels {tuple(label.shape)}, queries {tuple(asked.shape)}"
        raise UsageError(f"The shapes do not fit: {shapes}.", "They are (B,F), (B,) and (Q,F).")
    if label.is_floating_point() or label.dtype == torch.bool or (len(label) and int(label.min()) < 0):
        raise UsageError("Labels are whole numbers from 0.", "Number the classes, and leave out images without one.")
    rows, asked = _floats(rows, "bank"), _floats(asked, "queries").to(rows.device)
    label = label.to(rows.device, torch.int64)
    classes = int(label.max()) + 1 if len(label) else 0
    try:
        return vote(
            rows, label, asked, classes=classes, k=default_k(label) if k is None else k, temperature=temperature
        )
    except ValueError as error:
        raise UsageError(f"knn {error}.", "Give another bank, k or temperature.") from error


def _floats(rows: Tensor, name: str) -> Tensor:
    rows = rows if rows.is_floating_point() else rows.float()
    if not bool(rows.isfinite().all()):
        raise UsageError(f"The {name} holds numbers that are not finite.", "Leave these rows out.")
    return rows
