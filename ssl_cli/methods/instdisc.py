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
from ssl_cli.objective import Batch, GroupPositives, Objective, Targets, to_device

NOISE = 1 << 20
"""The number of a view that no image has: noise rows are drawn as if for this one."""


class InstDisc(Objective):
    """Match one view of each image with the image's row in a memory bank, against the rows of other images.

    By NCE against `noise` rows, or if that is 0 by the exact softmax over the bank, as in the CIFAR recipe. Where
    positives are by group, the row is that of another image of its group, and all others of the group are left out.
    """

    views = 1
    gradient_views = 1
    bank: Bank
    group: Tensor | None
    positives: GroupPositives | None = None
    log_Z: Tensor  # noqa: N815
    """Log of NCE's normalising constant (equation 8): NaN until the first step has set it."""

    def __init__(self, backbone: nn.Module, features: int, cfg: InstDiscSettings) -> None:
        super().__init__()
        self.cfg, self.loss_scale = cfg, cfg.loss_scale
        self.backbone = backbone
        self.projector = projector(features, cfg.head_layers, cfg.head_hidden, cfg.head_dim, cfg.head_batchnorm)
        self.dim = cfg.head_dim if cfg.head_layers else features
        self.register_buffer("log_Z", torch.tensor(math.nan))
        self.register_buffer("group", None, persistent=False)

    @property
    def has_targets(self) -> bool:
        """Whether noise rows are drawn; not for the softmax over all rows."""
        return self.cfg.noise > 0

    @property
    def target_views(self) -> tuple[int, ...]:
        """Return no view: noise rows depend on none."""
        return ()

    def prepare(self, images: int, seed: int) -> None:
        """Create the bank, a row for each image."""
        self.bank, self.seed = Bank(images, self.dim, seed), seed
        self._first_step = True

    def prepare_groups(self, positives: GroupPositives) -> None:
        """Keep the group of each row of the bank; no checkpoint holds it, for it is the data set's."""
        self.group, self.positives = positives.group, positives

    def forward(self, x: Tensor) -> Tensor:
        """Compute embeddings v = g(f(x)), unit rows `(M,D)`."""
        return unit(self.projector(self.backbone(x)))

    def targets(self, views: Sequence[Tensor], batch: Batch) -> Tensor:
        """Draw noise rows `(N,m)`, uniform with replacement, the image's row not excluded (section 3.2)."""
        key = draws.Key(self.seed, batch.epoch, batch.index, NOISE)
        rows = draws.integer(*key, range(self.cfg.noise), len(self.bank.rows))
        return rows.to(self.bank.rows.device, non_blocking=True)

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute NCE, equation 7, or the softmax of equation 2; plus the proximal term of equation 10."""
        rows, index, local = self.bank.rows, self._positive(batch, z), batch.local_rows
        v, local_index, group = z[local], index[local], self.group
        if targets is None:
            groups = None if group is None else (group[local_index], group)
            loss = row_softmax(v, rows, local_index, self.cfg.temperature, groups=groups)
        else:
            noise, all_rows = targets[local], isinstance(local, slice)
            # of all rows `nce` estimates log Z from the scores it computes
            log_Z = self.log_Z if all_rows else self._constant(z.detach(), index, targets)
            left_out = None if group is None else group[noise] == group[local_index, None]
            loss, _ = nce(v, rows, local_index, noise, self.cfg.temperature, log_Z, left_out=left_out)
        if self.cfg.proximal:
            loss = loss + self.cfg.proximal * proximal(v, rows[_index(batch, z)[local]])
        return self.loss_scale * distributed.mean_over_ranks(loss, len(v) / len(z))

    def negatives(self, images: int) -> int:
        """Count the noise rows, or for the softmax all rows but one."""
        return self.cfg.noise or len(self.bank.rows) - 1

    def chance(self, images: int) -> float:
        """Compute the loss of equal similarities: log n of the softmax, log(m + 1) + m log(1 + 1/m) of NCE.

        Where positives are by group, n and the m of the sum are without the rows of an image's own group.
        """
        m = self.cfg.noise
        if m:
            unscaled = self.over_groups(lambda n: math.log(m + 1) + n * math.log1p(1 / m), m)
        else:
            unscaled = self.over_groups(lambda n: math.log(n + 1), self.negatives(images))
        return self.loss_scale * unscaled

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        """Set Z after the first step, and blend each embedding into its image's row of the bank."""
        if targets is not None:
            self.log_Z.copy_(self._constant(z, self._positive(batch, z), targets))
            self._first_step = False
        self.bank.blend(_index(batch, z), z, self.cfg.bank_momentum)

    def _constant(self, z: Tensor, index: Tensor, targets: Tensor) -> Tensor:
        """Return log Z: estimated from all rows of the first step, unchanged later and where a checkpoint set it."""
        if not self._first_step:
            return self.log_Z
        return nce(z, self.bank.rows, index, targets, self.cfg.temperature, self.log_Z)[1]

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """Measure how well embeddings find their images' rows among those of the batch."""
        positive, group = self._positive(batch, z), batch.group_of(z)
        rows, others = self.bank.rows[positive], self.bank.rows[_index(batch, z)]
        groups = None if group is None else (group, group)
        return agreement(z, rows, others, (torch.arange(len(z), device=z.device),), groups)

    def _positive(self, batch: Batch, z: Tensor) -> Tensor:
        """Return each image's positive row of the bank `(N,)`: its own, or that of another image of its group."""
        if self.positives is None:
            return _index(batch, z)
        return to_device(self.positives.draw(self.seed, batch.epoch, batch.index), z.device)


def _index(batch: Batch, z: Tensor) -> Tensor:
    return batch.index.to(z.device, non_blocking=True)
