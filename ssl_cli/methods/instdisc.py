"""InstDisc: unsupervised feature learning by instance discrimination (Wu et al. 2018, arXiv 1805.01978)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ssl_cli import distributed, draws
from ssl_cli.config.methods import InstDiscSettings
from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.nce import nce, proximal
from ssl_cli.losses.row_softmax import row_softmax
from ssl_cli.nn.bank import Bank
from ssl_cli.nn.heads import projector, unit
from ssl_cli.objective import Batch, Objective, Targets

NOISE = 1 << 20
"""No image has so many views: noise rows are drawn in the place of this one."""


class InstDisc(Objective):
    """One view of each image agrees with the image's own row in a memory bank, against the rows of others.

    By NCE against `noise` rows, or where that is 0 by the exact softmax over the bank, as the CIFAR recipe has it.
    """

    views = 1
    gradient_views = 1
    bank: Bank
    log_Z: Tensor  # noqa: N815
    """Log of NCE's normalising constant (equation 8): not a number until the first step has fixed it."""

    def __init__(self, backbone: nn.Module, features: int, cfg: InstDiscSettings) -> None:
        super().__init__()
        self.cfg, self.loss_scale = cfg, cfg.loss_scale
        self.backbone = backbone
        self.projector = projector(features, cfg.head_layers, cfg.head_hidden, cfg.head_dim, cfg.head_batchnorm)
        self.dim = cfg.head_dim if cfg.head_layers else features
        self.register_buffer("log_Z", torch.tensor(math.nan))

    @property
    def has_targets(self) -> bool:
        """Noise rows, unless the softmax is over all rows."""
        return self.cfg.noise > 0

    @property
    def target_views(self) -> tuple[int, ...]:
        """Noise rows are drawn without a look at any view."""
        return ()

    def prepare(self, images: int, seed: int) -> None:
        """A row of the bank for each image."""
        self.bank, self.seed = Bank(images, self.dim, seed), seed
        self._unfixed = True

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings v = g(f(x)), unit rows `(M,D)`."""
        return unit(self.projector(self.backbone(x)))

    def targets(self, views: Sequence[Tensor], batch: Batch) -> Tensor:
        """Noise rows `(N,m)`, uniform with replacement, an image's own row not excluded (section 3.2)."""
        key = draws.Key(self.seed, batch.epoch, batch.index, NOISE)
        rows = draws.integer(*key, range(self.cfg.noise), len(self.bank.rows))
        return rows.to(self.bank.rows.device, non_blocking=True)

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """NCE, equation 7, or the softmax of equation 2; with the proximal term of equation 10."""
        rows, index = self.bank.rows, batch.index.to(z.device, non_blocking=True)
        v, own = z[batch.local_rows], index[batch.local_rows]
        if targets is None:
            loss = row_softmax(v, rows, own, self.cfg.temperature)
        else:
            alone = isinstance(batch.local_rows, slice)  # then the loss estimates it on its way
            log_Z = self.log_Z if alone else self._constant(z.detach(), index, targets)
            loss, _ = nce(v, rows, own, targets[batch.local_rows], self.cfg.temperature, log_Z)
        if self.cfg.proximal:
            loss = loss + self.cfg.proximal * proximal(v, rows[own])
        return self.loss_scale * distributed.mean_over_ranks(loss, len(v) / len(z))

    def negatives(self, images: int) -> int:
        """The noise rows, or all rows but one."""
        return self.cfg.noise or len(self.bank.rows) - 1

    def chance(self, images: int) -> float:
        """Of the softmax log n; of NCE, m + 1 questions of yes or no, log(m + 1) + m log(1 + 1 / m)."""
        m = self.cfg.noise
        unscaled = math.log(m + 1) + m * math.log1p(1 / m) if m else math.log(len(self.bank.rows))
        return self.loss_scale * unscaled

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        """The first step fixes Z; each image's row then moves towards its embedding, and is made unit again."""
        index = batch.index.to(z.device, non_blocking=True)
        if targets is not None:
            self.log_Z.copy_(self._constant(z, index, targets))
            self._unfixed = False
        self.bank.blend(index, z, self.cfg.bank_momentum)

    def _constant(self, z: Tensor, index: Tensor, targets: Tensor) -> Tensor:
        """Log Z: found once, from all rows of a first step; what a checkpoint brought comes back as it is."""
        if not self._unfixed:
            return self.log_Z
        return nce(z, self.bank.rows, index, targets, self.cfg.temperature, self.log_Z)[1]

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """How well embeddings find their own rows among those of the batch."""
        own = self.bank.rows[batch.index.to(z.device, non_blocking=True)]
        return agreement(z, own, own, own=(torch.arange(len(z), device=z.device),))
