"""SimCLR: a simple framework for contrastive learning (Chen et al. 2020, arXiv 2002.05709)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_cli import distributed
from ssl_cli.config.methods import MethodSettings
from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.nt_xent_tiled import add_negatives, local_log_sum_exp, nt_xent_local, nt_xent_tiled
from ssl_cli.nn.heads import projector, unit
from ssl_cli.objective import Batch, LocalRows, Objective, Targets


def nt_xent_over_ranks(
    z: Tensor, local: LocalRows, temperature: float, extra: Tensor | None = None, group: Tensor | None = None,
    extra_group: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Compute NT-Xent of all rows z `(M,D)`; on several ranks with the gradient of the rows `local` alone.

    Note:
        Each rank computes the log-sum-exps of its local rows; they are gathered, one number a row.
    """
    if isinstance(local, slice):
        return nt_xent_tiled(z, temperature, extra=extra, group=group, extra_group=extra_group)
    rows, extra_grad = z.detach(), None
    logs = local_log_sum_exp(rows, local, temperature, group=group)
    if extra is not None:
        local_group = None if group is None else group[local]
        logs, extra_grad = add_negatives(
            rows[local], extra, logs, temperature, rows=len(z), group=local_group, extra_group=extra_group
        )
    logs = distributed.gather_rows(logs, local, len(z))
    return nt_xent_local(z, logs, temperature, local, extra_grad, group=group)


class SimCLR(Objective):
    """Compare each view with the other view of its image, the positive, and with all other views of the batch.

    These 2(N - 1) views are its negatives: algorithm 1, NT-Xent on z = g(f(x)). Where positives are by group, those of
    its own group are left out.
    """

    paper_bn_group = "global"

    def __init__(self, backbone: nn.Module, features: int, cfg: MethodSettings) -> None:
        super().__init__()
        self.cfg, self.loss_scale = cfg, cfg.loss_scale
        self.backbone = backbone
        self.projector = projector(features, cfg.head_layers, cfg.head_hidden, cfg.head_dim, cfg.head_batchnorm)

    def forward(self, x: Tensor) -> Tensor:
        """Compute embeddings z = g(f(x)), unit rows `(M,D)`, of both views in one forward pass."""
        return unit(self.projector(self.backbone(x)))

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute NT-Xent over both views, equation 1, times `loss_scale` (2 in the official code)."""
        temperature, group = self.cfg.temperature, batch.group_of(z)
        return self.loss_scale * nt_xent_over_ranks(z, batch.local_rows, temperature, group=group)

    def negatives(self, images: int) -> int:
        """Count both views of all other images: 2(N - 1)."""
        return 2 * (images - 1)

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """Measure how well first views find their second views among all rows of the batch."""
        first, second = z.chunk(2)
        rows = torch.arange(len(first), device=z.device)
        group = batch.group_of(z)
        groups = None if group is None else (group[: len(first)], group)
        return agreement(first, second, z, (rows, rows + len(first)), groups)
