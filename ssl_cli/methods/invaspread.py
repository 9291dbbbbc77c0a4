"""InvaSpread: an embedding that is invariant and spreads instances (Ye et al. 2019, arXiv 1904.03436)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_cli import distributed
from ssl_cli.config.methods import InvaSpreadSettings
from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.invariant_spread import invariant_spread
from ssl_cli.nn.heads import projector, unit
from ssl_cli.objective import Batch, Objective, Targets


class InvaSpread(Objective):
    """Attract the two views of each image and repel all others within the batch, with one encoder and no memory.

    Where positives are by group, other images of its group are not repelled.
    """

    paper_bn_group = "global"

    def __init__(self, backbone: nn.Module, features: int, cfg: InvaSpreadSettings) -> None:
        super().__init__()
        self.cfg, self.loss_scale = cfg, cfg.loss_scale
        self.backbone = backbone
        self.projector = projector(features, cfg.head_layers, cfg.head_hidden, cfg.head_dim, cfg.head_batchnorm)

    def forward(self, x: Tensor) -> Tensor:
        """Compute embeddings z = g(f(x)), unit rows `(M,D)`, of both views in one forward pass."""
        return unit(self.projector(self.backbone(x)))

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute -log P of the positive and -log(1 - P) of all others, equation 6, as in the official code."""
        rows = torch.arange(len(z), device=z.device)[batch.local_rows]
        loss = invariant_spread(z, self.cfg.temperature, rows=rows, group=batch.group_of(z))
        return self.loss_scale * distributed.mean_over_ranks(loss, len(rows) / len(z))

    def negatives(self, images: int) -> int:
        """Count both views of all other images: 2(N - 1)."""
        return 2 * (images - 1)

    def chance(self, images: int) -> float:
        """Compute the loss where all 2N - 1 others, or those of other groups, have the same probability."""

        def loss(negatives: float) -> float:
            others = negatives + 1
            return math.log(others) + negatives * math.log(others / negatives) if negatives else 0.0

        return self.loss_scale * self.over_groups(loss, self.negatives(images))

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """Measure how well first views find their second views among all rows of the batch."""
        first, second = z.chunk(2)
        rows = torch.arange(len(first), device=z.device)
        group = batch.group_of(z)
        groups = None if group is None else (group[: len(first)], group)
        return agreement(first, second, z, (rows, rows + len(first)), groups)
