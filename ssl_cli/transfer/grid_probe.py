"""Linear classifiers of a whole grid of rates and penalties, trained at once as one batched problem."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli.transfer.linear import held_out
from ssl_cli.transfer.tally import accuracy

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
PENALTIES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
MOMENTUM, EPOCHS, BATCH = 0.9, 20, 256
MOST_WEIGHTS = 1 << 26
"""Weights of classifiers trained at once: with their momentum and gradient 800 MB."""
PASSES = 2
"""Augmented passes over the training images, in addition to the one by the test transform."""


@dataclass(frozen=True)
class GridFit:
    """The classifier that was chosen, its rate and penalty, and the accuracy on held-out rows that chose it.

    Attributes:
        weight: `(F, classes)`.
        bias: `(classes,)`.
        mean: of the rows that it was trained on, `(F,)`.
        scale: their standard deviation.
        rate: the learning rate.
        l2: the weight decay.
        held_out_top1: None without held-out rows.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    rate: float
    l2: float
    held_out_top1: float | None

    def scores(self, h: Tensor) -> Tensor:
        """Compute logits `(N, classes)` of rows `(N,F)`."""
        return ((h.float() - self.mean) / self.scale) @ self.weight + self.bias


@torch.no_grad()
def train_grid(
    x: Tensor, labels: Tensor, *, classes: int, rates: Tensor, penalties: Tensor, epochs: int, batch: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Train G softmax classifiers on the same batches by SGD with Nesterov momentum, decay and a cosine schedule.

    All of them are one matrix: a step is two matrix products, whatever G. Those that diverge become NaN.

    Args:
        x: rows `(N,F)`.
        labels: int64 `(N,)`.
        classes: number of classes, C.
        rates: `(G,)`, each classifier's first learning rate.
        penalties: `(G,)`, its weight decay, of weights alone.
        epochs: passes over the rows.
        batch: rows of a step.
        seed: of their order.

    Returns:
        Weights `(G,F,C)` and biases `(G,C)`.
    """
    count, (rows, width) = len(rates), x.shape
    weight, bias = x.new_zeros(width, count * classes), x.new_zeros(count * classes)
    moved_weight, moved_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    each, decay = rates.to(x).repeat_interleave(classes), penalties.to(x).repeat_interleave(classes)
    step, steps = 0, epochs * math.ceil(rows / batch)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(rows, generator=draw).to(x.device), batch):
            part, label = x[chosen], labels[chosen]
            error = torch.addmm(bias, part, weight).view(-1, count, classes).softmax(2)
            error.scatter_add_(2, label[:, None, None].expand(-1, count, 1), error.new_tensor(-1.0).expand_as(error))
            error = error.flatten(1).div_(len(chosen))
            slope, bias_slope = (part.T @ error).addcmul_(weight, decay), error.sum(0)
            moved_weight.mul_(MOMENTUM).add_(slope)
            moved_bias.mul_(MOMENTUM).add_(bias_slope)
            now = each * (0.5 * (1 + math.cos(math.pi * step / steps)))
            weight.sub_(now * slope.add_(moved_weight, alpha=MOMENTUM))
            bias.sub_(now * bias_slope.add_(moved_bias, alpha=MOMENTUM))
            step += 1
    return weight.view(width, count, classes).transpose(0, 1), bias.view(count, classes)


def grid_probe(
    passes: Sequence[Tensor], labels: Tensor, *, classes: int, seed: int = 0, group: Tensor | None = None
) -> GridFit:
    """Train all rates and penalties, choose by top-1 on a held-out tenth of the images, then train on all of them.

    Rows are standardised. Of two classifiers equally right, the one of the lower cross-entropy is chosen. With fewer
    than ten images nothing is held out, and a rate and a penalty in the middle are used.

    Args:
        passes: representations `(N,F)` of the training images: first by the test transform, by which the held-out ones
            are classified, then of augmented views.
        labels: int64 `(N,)`, 0 to `classes - 1`.
        classes: number of classes.
        seed: chooses the held-out images, and the order of the others.
        group: int64 `(N,)` on the CPU, of which none is held out in part; None: there are none.
    """
    rows = torch.cat([h.float() for h in passes])
    mean, scale = rows.mean(0), rows.std(0, unbiased=False).clamp(min=1e-6)
    x, images = rows.sub_(mean).div_(scale), len(labels)
    held, rest = held_out(labels, seed, group)
    repeated, grid = labels.repeat(len(passes)), torch.tensor([*product(RATES, PENALTIES)], dtype=torch.float64)

    def train(rows: Tensor, settings: Tensor) -> tuple[Tensor, Tensor]:
        rates, penalties = settings.T
        given = {"classes": classes, "epochs": EPOCHS, "batch": BATCH, "seed": seed}
        return train_grid(x[rows], repeated[rows], rates=rates, penalties=penalties, **given)

    best, top1 = len(grid) // 2, None
    if len(held):
        others = torch.cat([rest + number * images for number in range(len(passes))])
        found = list[tuple[float, float]]()
        for settings in torch.split(grid, max(1, MOST_WEIGHTS // (classes * x.shape[1]))):
            weights, biases = train(others, settings)
            found += [_quality(x[held] @ w + b, labels[held]) for w, b in zip(weights, biases, strict=True)]
        best = max(range(len(grid)), key=found.__getitem__)
        top1 = found[best][0]
    rate, penalty = grid[best].tolist()
    weights, biases = train(torch.arange(len(x), device=x.device), grid[best : best + 1])
    return GridFit(weights[0], biases[0], mean, scale, rate, penalty, top1)


def _quality(scores: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy of scores `(N,C)`, and minus their cross-entropy; the worst where one is not finite."""
    if not bool(scores.isfinite().all()):
        return -1.0, -math.inf
    return accuracy(scores, labels)[0], -float(F.cross_entropy(scores, labels))
