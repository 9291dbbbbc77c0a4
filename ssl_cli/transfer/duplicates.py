"""Near-duplicates across a split: test images that are almost among the training images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.data.split import evenly
from ssl_cli.transfer.knn import SIMILARITIES

EMBEDDED, THUMBNAILS = 0.9, 0.95
"""Least cosine similarities of a near-duplicate: of standardised embeddings, and of images at low resolution.

Images of one kind often have such embeddings, and images of one layout such thumbnails; others rarely have both.
"""
QUERIES = 2000
"""Test images at most that are compared, evenly spaced."""


def duplicates_note(bank: Tensor, queries: Tensor, bank_thumbnails: Tensor, query_thumbnails: Tensor) -> str:
    """Say how many test images have a near-duplicate; empty: none. Arguments as for `near_duplicates`."""
    found, compared = near_duplicates(bank, queries, bank_thumbnails, query_thumbnails)
    if not found:
        return ""
    have = f"{found:,} of {compared:,} test images have" if found > 1 else f"1 of {compared:,} test images has"
    return f"{have} a near-duplicate among the training images: a split by --group-by would keep such together"


@torch.no_grad()
def near_duplicates(
    bank: Tensor, queries: Tensor, bank_thumbnails: Tensor, query_thumbnails: Tensor
) -> tuple[int, int]:
    """Count the test images that have a near-duplicate among the training images, and those that were compared.

    Args:
        bank: `(B,F)`, embeddings of the training images; finite.
        queries: `(Q,F)`, of the test images.
        bank_thumbnails: `(B,L)`, the training images at low resolution, as rows of zero mean.
        query_thumbnails: `(Q,L)`, those of the test images.
    """
    chosen = evenly(len(queries), QUERIES)
    mean, scale = bank.mean(0), bank.std(0, unbiased=False).clamp(min=1e-6)
    of_bank, of_queries = (F.normalize((x - mean) / scale, dim=1) for x in (bank, queries[chosen]))
    thumbnails, query_thumbnails = F.normalize(bank_thumbnails, dim=1), F.normalize(query_thumbnails[chosen], dim=1)
    step, found = max(1, SIMILARITIES // len(bank)), 0
    for rows, small in zip(torch.split(of_queries, step), torch.split(query_thumbnails, step), strict=True):
        near = (rows @ of_bank.T >= EMBEDDED) & (small @ thumbnails.T >= THUMBNAILS)
        found += int(near.any(1).sum())
    return found, len(chosen)
