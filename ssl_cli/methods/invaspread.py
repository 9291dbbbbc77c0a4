"""InvaSpread: an embedding that is invariant and spreads instances (Ye et al. 2019, arXiv 1904.03436)."""

import math

import torch
from torch import Tensor

from ssl_cli import distributed
from ssl_cli.losses.invariant_spread import invariant_spread
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.objective import Batch, Targets


class InvaSpread(SimCLR):
    """Attract the two views of each image and repel all others within the batch, with one encoder and no memory.

    All but the loss is as in SimCLR. Where positives are by group, other images of its group are not repelled.
    """

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute -log P of the positive and -log(1 - P) of all others, equation 6, as in the official code."""
        rows = torch.arange(len(z), device=z.device)[batch.local_rows]
        loss = invariant_spread(z, self.cfg.temperature, rows=rows, group=batch.group_of(z))
        return self.loss_scale * distributed.mean_over_ranks(loss, len(rows) / len(z))

    def chance(self, images: int) -> float:
        """Compute the loss where all 2N - 1 others, or those of other groups, have the same probability."""

        def loss(negatives: float) -> float:
            others = negatives + 1
            return math.log(others) + negatives * math.log(others / negatives) if negatives else 0.0

        return self.loss_scale * self.over_groups(loss, self.negatives(images))
