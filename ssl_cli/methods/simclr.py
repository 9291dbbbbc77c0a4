"""SimCLR: a simple framework for contrastive learning (Chen et al. 2020, arXiv 2002.05709)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_cli import distributed
from ssl_cli.config.methods import MethodSettings
from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.nt_xent_tiled import meet, nt_xent_from, nt_xent_tiled, own_log_sum_exp
from ssl_cli.nn.heads import projector, unit
from ssl_cli.objective import Batch, LocalRows, Objective, Targets


def shared_nt_xent(z: Tensor, own: LocalRows, temperature: float, extra: Tensor | None = None) -> Tensor:
    """`nt_xent_tiled(z, temperature, extra=extra)`; of several processes each does its `own` rows' part.

    What they tell each other is a number a row: its log-sum-exp.
    """
    if isinstance(own, slice):
        return nt_xent_tiled(z, temperature, extra=extra)
    rows, pull = z.detach(), None
    log_sum_exp = own_log_sum_exp(rows, own, temperature)
    if extra is not None:
        log_sum_exp, pull = meet(rows[own], extra, log_sum_exp, temperature, of=len(z))
    return nt_xent_from(z, distributed.gather_rows(log_sum_exp, own, len(z)), temperature, own, pull)


class SimCLR(Objective):
    """Two views of each image agree, against all other views of the batch (algorithm 1)."""

    paper_bn_group = "global"

    def __init__(self, backbone: nn.Module, features: int, cfg: MethodSettings) -> None:
        super().__init__()
        self.cfg, self.loss_scale = cfg, cfg.loss_scale
        self.backbone = backbone
        self.projector = projector(features, cfg.head_layers, cfg.head_hidden, cfg.head_dim, cfg.head_batchnorm)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings z = g(f(x)), unit rows `(M,D)`; both views pass together."""
        return unit(self.projector(self.backbone(x)))

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """NT-Xent over both views, equation 1."""
        return self.loss_scale * shared_nt_xent(z, batch.local_rows, self.cfg.temperature)

    def negatives(self, images: int) -> int:
        """2(N - 1): both views of all other images."""
        return 2 * (images - 1)

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """How well first views find their second ones among all rows of the batch."""
        first, second = z.chunk(2)
        rows = torch.arange(len(first), device=z.device)
        return agreement(first, second, z, own=(rows, rows + len(first)))
