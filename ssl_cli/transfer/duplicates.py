"""Near-duplicates across a split: test images that are almost among the training images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.data.split import evenly
from ssl_cli.transfer.knn import SIMILARITIES

EMBEDDED, LOOKS = 0.9, 0.95
"""Least cosine similarities of a near-duplicate: of standardised embeddings, and of pictures at low resolution.

Embeddings alone are as near for many pictures of one kind, low resolution for many of one layout; both rarely are.
"""
QUERIES = 2000
"""Test images at most that are looked at, evenly apart."""


def duplicates_note(bank: Tensor, queries: Tensor, bank_looks: Tensor, query_looks: Tensor) -> str:
    """Say how many test images have a near-duplicate; empty: none. Arguments as for `near_duplicates`."""
    found, looked_at = near_duplicates(bank, queries, bank_looks, query_looks)
    if not found:
        return ""
    have = f"{found:,} of {looked_at:,} test images have" if found > 1 else f"1 of {looked_at:,} test images has"
    return f"{have} a near-duplicate among the training images: a split by --group-by would keep such together"


@torch.no_grad()
def near_duplicates(bank: Tensor, queries: Tensor, bank_looks: Tensor, query_looks: Tensor) -> tuple[int, int]:
    """Count the test images that have a near-duplicate among the training images, and those that were looked at.

    Args:
        bank: `(B,F)`, embeddings of the training images; finite.
        queries: `(Q,F)`, of the test images.
        bank_looks: `(B,L)`, their pictures at low resolution, as rows of zero mean.
        query_looks: `(Q,L)`, likewise.
    """
    chosen = evenly(len(queries), QUERIES)
    mean, scale = bank.mean(0), bank.std(0, unbiased=False).clamp(min=1e-6)
    of_bank, of_queries = (F.normalize((x - mean) / scale, dim=1) for x in (bank, queries[chosen]))
    looks, query_looks = F.normalize(bank_looks, dim=1), F.normalize(query_looks[chosen], dim=1)
    step, found = max(1, SIMILARITIES // len(bank)), 0
    for rows, seen in zip(torch.split(of_queries, step), torch.split(query_looks, step), strict=True):
        near = (rows @ of_bank.T >= EMBEDDED) & (seen @ looks.T >= LOOKS)
        found += int(near.any(1).sum())
    return found, len(chosen)
