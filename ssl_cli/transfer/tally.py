"""Right and wrong answers of a classifier: top-1, top-5, each class, and which class is taken for which."""

from collections.abc import Sequence

import torch
from torch import Tensor

BEST = (1, 5)
MOST_CLASSES = 1000
"""Classes up to which it is counted which is taken for which: the square of it is held in memory, and printed."""


def hits(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute for scores `(Q,C)` of labels `(Q,)` whether a label is the best, and among the best five: `(2,Q)`.

    Classes with exactly the same score count as if they were ordered at random: two at the top are half a hit each, in
    whatever order they are listed. A label whose score is not finite is never a hit.
    """
    own = scores.gather(1, labels[:, None])
    better = (~(own >= scores)).sum(1)  # another class's NaN counts as better
    equal = (own == scores).sum(1).clamp(min=1)
    finite = own[:, 0].isfinite()
    return torch.stack([((best - better) / equal).clamp(0, 1) * finite for best in BEST]).double()


def accuracy(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Compute top-1 and top-5 accuracy, as fractions, of scores `(Q,C)` for labels `(Q,)`; ties as in `hits`."""
    top1, top5 = hits(scores, labels).mean(1).tolist()
    return top1, top5


class Tally:
    """Count the answers of a classifier, a part of the test images at a time.

    Args:
        classes: number of classes.
        device: of scores and labels.
        confusion: count which class is taken for which, for up to `MOST_CLASSES`.

    Attributes:
        confusion: float64 `(classes, classes)`, row: the label, column: the answer; None where it is not counted. An
            image with several best classes counts in parts, so that the diagonal over the sum of a row is that class's
            accuracy. An image without a finite score counts nowhere.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu", *, confusion: bool = True) -> None:
        self._hits = torch.zeros(len(BEST), classes, dtype=torch.float64, device=device)
        self._count = torch.zeros(classes, dtype=torch.int64, device=device)
        self.confusion = self._hits.new_zeros(classes, classes) if confusion and classes <= MOST_CLASSES else None

    def add(self, scores: Tensor, labels: Tensor) -> None:
        """Count right and wrong answers of q test images, by their scores `(q,C)` and labels, int64 `(q,)`."""
        self._hits.index_add_(1, labels, hits(scores, labels))
        self._count.index_add_(0, labels, torch.ones_like(labels))
        if self.confusion is not None:
            best = scores == scores.amax(1, keepdim=True)
            shares = (best & scores.isfinite()).double()
            self.confusion.index_add_(0, labels, shares / shares.sum(1, keepdim=True).clamp(min=1))

    @property
    def top1(self) -> float:
        """Return the share of images whose label has the best score."""
        return float(self._hits[0].sum() / self._count.sum())

    @property
    def top5(self) -> float:
        """Return the share of images whose label is among the five best."""
        return float(self._hits[1].sum() / self._count.sum())

    def accuracies(self) -> dict[str, float | None]:
        """Return `top1` and `top5`, None where five classes or fewer make it 1 whatever the answers."""
        return {"top1": self.top1, "top5": self.top5 if len(self._count) > max(BEST) else None}

    def per_class(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return number and accuracy of the images of each class that has any, by its name."""
        found = zip(names, self._count.tolist(), self._hits[0].tolist(), strict=True)
        return {name: {"images": count, "top1": right / count} for name, count, right in found if count}

    def counts(self) -> list[list[float]]:
        """Return the confusion matrix as rows of numbers, whole ones as integers; empty where it is not counted."""
        rows = [] if self.confusion is None else self.confusion.tolist()
        return [[int(value) if value == int(value) else round(value, 4) for value in row] for row in rows]
