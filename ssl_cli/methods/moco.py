"""MoCo: momentum contrast (He et al. 2020, arXiv 1911.05722), and v2 (Chen et al. 2020, arXiv 2003.04297).

The versions differ in their recipes alone: v2 has SimCLR's two-layer head, blur, and a cosine schedule.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ssl_cli import distributed
from ssl_cli.config.methods import MoCoSettings
from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.info_nce import Groups, info_nce
from ssl_cli.nn.ema import momentum_copy, update_ema
from ssl_cli.nn.heads import projector, unit
from ssl_cli.nn.queue import Queue
from ssl_cli.objective import Batch, GroupPositives, Objective, Targets, view_by_view


class MoCo(Objective):
    """Contrast a query with its key from the momentum encoder and with a queue of earlier keys (algorithm 1).

    Where positives are by group, keys of the query's group are left out of the queue.
    """

    paper_bn_group = 32  # 256 images on eight devices
    shuffled_keys = True

    def __init__(self, backbone: nn.Module, features: int, cfg: MoCoSettings) -> None:
        super().__init__()
        self.cfg, self.loss_scale = cfg, cfg.loss_scale
        self.gradient_views = self.key_views = 2 if cfg.symmetric else 1
        self.backbone = backbone
        self.projector = projector(features, cfg.head_layers, cfg.head_hidden, cfg.head_dim, cfg.head_batchnorm)
        self.key = momentum_copy(self.online)
        self.queue = Queue(cfg.queue, cfg.head_dim if cfg.head_layers else features)

    @property
    def online(self) -> nn.Sequential:
        """Return the query encoder, g after f, which is trained by gradient."""
        return nn.Sequential(self.backbone, self.projector)

    @property
    def target_views(self) -> tuple[int, ...]:
        """Return the views that keys are computed of: the second, and if symmetric the first too."""
        return (0, 1) if self.cfg.symmetric else (1,)

    def synchronise(self) -> None:
        """Make the momentum encoder equal to the query encoder."""
        self.key.load_state_dict(self.online.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """Compute queries q, unit rows `(M,D)`."""
        return unit(self.online(x))

    def targets(self, views: Sequence[Tensor], batch: Batch) -> Tensor:
        """Compute keys `(N,V,D)`: of the second view, and if symmetric of the first too, so that key v is query v's."""
        partners = (views[1], views[0])[: self.gradient_views]
        return torch.stack([unit(self.key(view)) for view in partners], dim=1)

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute InfoNCE, equation 1, with the queue before this step; the mean of both directions if symmetric."""
        q, k = z[batch.local_rows], view_by_view(targets)[batch.local_rows]
        groups = self._groups(batch, z)
        local_groups = groups and (groups[0][batch.local_rows], groups[1])
        loss = info_nce(q, k, self.queue.rows, self.cfg.temperature, groups=local_groups)
        return self.loss_scale * distributed.mean_over_ranks(loss, len(q) / len(z))

    def prepare_groups(self, positives: GroupPositives) -> None:
        """Let the queue store the group of each key."""
        self.queue.store_groups()

    def negatives(self, images: int) -> int:
        """Count the rows of the queue, K."""
        return len(self.queue.rows)

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        """Push the keys to the queue, over the oldest ones, and update the momentum encoder (equation 2)."""
        self.queue.push(view_by_view(targets), batch.group_of(z))
        update_ema(self.key, self.online, self.cfg.ema)

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """Measure how well queries find their keys among those of the queue."""
        return agreement(z, view_by_view(targets), self.queue.rows, groups=self._groups(batch, z))

    def _groups(self, batch: Batch, z: Tensor) -> Groups | None:
        """Return the groups of the queries z and of the queue's keys; None where positives are by image."""
        group, stored = batch.group_of(z), self.queue.group
        return None if group is None or stored is None else (group, stored)
