"""Weighted nearest-neighbour classification of frozen features: Wu et al. 2018, arXiv 1805.01978, section 3.4."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_K = 200
"""Neighbours that vote where nobody says otherwise, as in the papers of InstDisc and MoCo."""
SIMILARITIES = 16_000_000  # entries of the similarity matrix held at once: 64 MB


@dataclass(frozen=True)
class Votes:
    """Hold the votes of the neighbours.

    Attributes:
        scores: float32 or more `(Q, classes)`, the sum of exp((s - s_max) / T) over the neighbours of a class, where
            s_max is the query's largest similarity: the paper's vote up to one factor a query, and safe for any T.
        k: neighbours that voted, which is less than was asked where the bank is smaller.
    """

    scores: Tensor
    k: int

    @property
    def ranking(self) -> Tensor:
        """The scores, -inf for a class without a vote, which `accuracy` then never counts as found."""
        return self.scores.where(self.scores > 0, -torch.inf)


def smallest_class(labels: Tensor) -> int:
    """Return the number of images of the smallest class among int64 labels `(B,)`, 0 without labels."""
    counts = labels.bincount()
    return int(counts[counts > 0].min()) if len(labels) else 0


def default_k(labels: Tensor, largest: int = LARGEST_K) -> int:
    """Return the k that suits a bank: the size of its smallest class, from 1 to `largest`.

    With more neighbours than a class has images, others outvote it even where all of its images are the nearest.
    """
    return max(1, min(largest, smallest_class(labels)))


def k_note(asked: int | None, voted: int, labels: Tensor) -> str:
    """Say why another k than usual voted, or that it is larger than the smallest class; empty where all is usual."""
    smallest = smallest_class(labels)
    if asked is None:
        return f"k is {voted}: the smallest class has no more images in the bank" if voted < LARGEST_K else ""
    if voted < asked:
        return f"k is {voted}, not {asked}: the bank has no more images"
    if voted > smallest:
        return (
            f"k {voted} is more than the {smallest} image{'s' * (smallest != 1)} that the smallest class has in the "
            f"bank: others outvote it; -k {max(smallest, 1)} suits"
        )
    return ""


@torch.no_grad()
def knn(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, *, classes: int, k: int = LARGEST_K, temperature: float = 0.1
) -> Votes:
    """Let the k most similar rows of the bank (cosine) vote on each query with weight exp(s / T).

    Args:
        bank: `(B,F)` representations of labelled images.
        bank_labels: int64 `(B,)`, 0 to `classes - 1`.
        queries: `(Q,F)` on the bank's device.
        classes: number of classes.
        k: neighbours asked for; at most B vote.
        temperature: T, positive.

    Raises:
        ValueError: an empty bank, or a k or temperature that is not positive.
    """
    if len(bank) == 0 or k < 1 or temperature <= 0:
        raise ValueError(f"needs bank rows, k >= 1 and T > 0, got {len(bank)} rows, k = {k}, T = {temperature}")
    k = min(k, len(bank))
    wide = torch.promote_types(bank.dtype, torch.float32)
    bank = F.normalize(bank.to(wide), dim=1).T
    scores = torch.zeros(len(queries), classes, device=bank.device, dtype=wide)
    step = max(1, SIMILARITIES // bank.shape[1])
    for query, score in zip(torch.split(queries, step), torch.split(scores, step), strict=True):
        similarity, neighbour = (F.normalize(query.to(wide), dim=1) @ bank).topk(k)
        weight = ((similarity - similarity[:, :1]) / temperature).exp_()
        score.scatter_add_(1, bank_labels[neighbour], weight)
    return Votes(scores, k)


def accuracy(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 accuracy, as fractions, of scores `(Q,C)` for labels `(Q,)`.

    Classes with exactly the same score count as if they were ordered at random: two at the top are half a hit each, in
    whatever order they are listed. A label whose score is not finite is never a hit.
    """
    own = scores.gather(1, labels[:, None])
    better = (~(own >= scores)).sum(1)  # another class's NaN counts as better
    equal = (own == scores).sum(1).clamp(min=1)
    finite = own[:, 0].isfinite()
    top1, top5 = ((((best - better) / equal).clamp(0, 1) * finite).double().mean().item() for best in (1, 5))
    return top1, top5
