"""A method of your own: BYOL (Grill et al. 2020, arXiv 2006.07733), which learns without negatives.

sslcli pretrain --method examples/your_own_method.py:BYOL --set method.target_ema=0.99
"""

import math
from typing import Any

from torch import Tensor, nn, no_grad, stack

from ssl_cli.nn.ema import momentum_copy, update_ema
from ssl_cli.nn.heads import unit
from ssl_cli.objective import Batch, Objective


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class BYOL(Objective):
    """What is predicted from each view meets what a slow copy of the network makes of the other view."""

    key_views = 2  # the copy sees both: for the forecast of time

    def __init__(self, backbone: nn.Module, features: int, cfg: Any) -> None:
        super().__init__()
        self.ema = getattr(cfg, "target_ema", 0.996)  # a setting of our own, with the paper's value
        hidden = cfg.head_hidden or 4 * features
        self.backbone, self.projector = backbone, _mlp(features, hidden, cfg.head_dim)
        self.predictor = _mlp(cfg.head_dim, hidden, cfg.head_dim)
        self.target = momentum_copy(nn.Sequential(self.backbone, self.projector))

    def forward(self, x: Tensor) -> Tensor:
        """Predictions, unit rows `(M,D)`: the only gradient path."""
        return unit(self.predictor(self.projector(self.backbone(x))))

    def targets(self, views: Any, batch: Batch) -> Tensor:
        """Of each image `(N,2,D)`, the copy's rows: of the second view for the first, and the other way round."""
        return stack([unit(self.target(view)) for view in (views[1], views[0])], dim=1)

    def loss(self, z: Tensor, targets: Any, batch: Batch) -> Tensor:
        """2 - 2 cos, equation 2, the sum of both directions; z holds all first views, then all second views."""
        return 4 * (1 - nn.functional.cosine_similarity(z, targets.transpose(0, 1).flatten(0, 1)).mean())

    @no_grad()
    def after_step(self, z: Tensor, targets: Any, batch: Batch, progress: float) -> None:
        """Move the copy, ever more slowly (section 3.3)."""
        momentum = 1 - (1 - self.ema) * (math.cos(math.pi * progress) + 1) / 2
        update_ema(self.target, nn.Sequential(self.backbone, self.projector), momentum)
