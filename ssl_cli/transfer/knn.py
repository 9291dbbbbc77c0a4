"""Weighted nearest-neighbour classification of frozen features: Wu et al. 2018, arXiv 1805.01978, section 3.4."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.names import counted
from ssl_cli.transfer.tally import Tally

LARGEST_K = 200
"""Neighbours that vote where nobody says otherwise, as in the papers of InstDisc and MoCo."""
SIMILARITIES = 16_000_000  # entries of the similarity matrix held at once: 64 MB
PER_NEIGHBOUR = 6
"""Memory of one neighbour of a query (similarity, index, label, weight), in entries of that matrix."""
SMALLEST_NORM = 1e-12


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
        return ranked(self.scores)

    @property
    def answers(self) -> Tensor:
        """The class with the most votes, int64 `(Q,)`; the first of several with as many."""
        return self.scores.argmax(1)


@dataclass(frozen=True)
class Scored:
    """The answers of the k nearest neighbours at one temperature."""

    k: int
    temperature: float
    tally: Tally


def ranked(scores: Tensor) -> Tensor:
    """Return the scores of votes, -inf for a class without one, which is then never counted as found."""
    return scores.where(scores > 0, -torch.inf)


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
            f"k {voted} is more than the {counted(smallest, 'image')} that the smallest class has in the "
            f"bank: others outvote it; -k {max(smallest, 1)} suits"
        )
    return ""


@torch.no_grad()
def votes(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, *, classes: int, ks: Sequence[int],
    temperatures: Sequence[float],
) -> Iterator[Tensor]:  # fmt: skip
    """Let the k most similar rows of the bank (cosine) vote on each query with weight exp(s / T), for several k and T.

    Exact, in one pass over the bank: neighbours are searched once, for the largest k. In addition to its arguments it
    holds about 100 MB, however large they are.

    Args:
        bank: `(B,F)` representations of labelled images.
        bank_labels: int64 `(B,)`, 0 to `classes - 1`.
        queries: `(Q,F)` on the bank's device.
        classes: number of classes.
        ks: neighbours asked for; at most B vote.
        temperatures: T, positive.

    Yields:
        Scores `(len(ks), len(temperatures), q, classes)` of the next q queries, as `Votes.scores`.

    Raises:
        ValueError: an empty bank, or a k or temperature that is not positive.
    """
    if len(bank) == 0 or not ks or min(ks) < 1 or not temperatures or not min(temperatures) > 0:
        what = f"{len(bank)} rows, k = {list(ks)}, T = {list(temperatures)}"
        raise ValueError(f"needs bank rows, k >= 1 and T > 0, got {what}")
    most = min(max(ks), len(bank))
    wide = torch.promote_types(bank.dtype, torch.float32)
    bank = bank.to(wide)
    norms = torch.linalg.vector_norm(bank, dim=1).clamp_(min=SMALLEST_NORM)
    entries = max(len(bank), PER_NEIGHBOUR * most, len(ks) * len(temperatures) * classes)
    for query in torch.split(queries, max(1, SIMILARITIES // entries)):
        similarity = (F.normalize(query.to(wide), dim=1) @ bank.T).div_(norms)
        nearest, neighbour = similarity.topk(most)
        del similarity
        label = bank_labels[neighbour]
        nearest -= nearest[:, :1].clone()
        scores = nearest.new_zeros(len(ks), len(temperatures), len(query), classes)
        for t, temperature in enumerate(temperatures):
            weight, score, start = (nearest / temperature).exp_(), nearest.new_zeros(len(query), classes), 0
            for end, position in sorted((min(k, most), position) for position, k in enumerate(ks)):
                score.scatter_add_(1, label[:, start:end], weight[:, start:end])
                scores[position, t], start = score, end
        yield scores


def knn(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, *, classes: int, k: int = LARGEST_K, temperature: float = 0.1
) -> Votes:
    """Let the k most similar rows of the bank vote on each query, for one k and T; arguments and errors of `votes`."""
    parts = votes(bank, bank_labels, queries, classes=classes, ks=(k,), temperatures=(temperature,))
    scores = [part[0, 0] for part in parts]
    wide = torch.promote_types(bank.dtype, torch.float32)
    return Votes(torch.cat(scores) if scores else bank.new_zeros(0, classes, dtype=wide), min(k, len(bank)))


def score(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, *, classes: int, ks: Sequence[int],
    temperatures: Sequence[float],
) -> list[Scored]:  # fmt: skip
    """Count the right answers of each k at each temperature, in this order; arguments and errors of `votes`.

    The first of them counts which class is taken for which, too.
    """
    grid = [(k, temperature) for k in ks for temperature in temperatures]
    tallies = [Tally(classes, queries.device, confusion=number == 0) for number in range(len(grid))]
    done = 0
    for part in votes(bank, bank_labels, queries, classes=classes, ks=ks, temperatures=temperatures):
        label = query_labels[done : done + part.shape[2]]
        done += len(label)
        for tally, scores in zip(tallies, part.flatten(0, 1), strict=True):
            tally.add(ranked(scores), label)
    return [Scored(min(k, len(bank)), t, tally) for (k, t), tally in zip(grid, tallies, strict=True)]
