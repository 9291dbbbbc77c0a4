"""SimCLR v2: big self-supervised models are strong semi-supervised learners (Chen et al. 2020, arXiv 2006.10029).

In addition to bigger networks, its pretraining is SimCLR with a deeper head, whose first layer fine-tuning keeps, and
with a memory of earlier keys, as MoCo's queue. The official code has no memory, which is worth 0.6 points (simclr#54,
#77). An author: rows are compared with the momentum encoder's outputs, of the current and of past batches (simclr#115).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ssl_cli import distributed
from ssl_cli.config.methods import SimCLRv2Settings
from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.row_softmax import row_softmax
from ssl_cli.methods.simclr import SimCLR, nt_xent_over_ranks
from ssl_cli.nn.ema import momentum_copy, update_ema
from ssl_cli.nn.heads import unit
from ssl_cli.nn.queue import Queue
from ssl_cli.objective import Batch, GroupPositives, Targets, view_by_view


class SimCLRv2(SimCLR):
    """Train as SimCLR, if set with a memory of the momentum encoder's keys as further negatives (section 2).

    With `memory_keys` "all" a row's positive is the other view's key, and its negatives are the keys of the batch and
    of the memory. With "past" the batch is compared with itself, as in SimCLR, and the memory adds negatives; without
    `head_batchnorm` all rows can then collapse to one side of the sphere, away from the memory. Without a memory there
    is no momentum encoder, and the loss is SimCLR's.
    """

    cfg: SimCLRv2Settings

    def __init__(self, backbone: nn.Module, features: int, cfg: SimCLRv2Settings) -> None:
        super().__init__(backbone, features, cfg)
        self.key_views = self.views if cfg.memory else 0
        self.key = momentum_copy(self.online) if cfg.memory else None
        self.queue = Queue(cfg.memory, cfg.head_dim if cfg.head_layers else features) if cfg.memory else None

    @property
    def online(self) -> nn.Sequential:
        """Return the encoder that is trained by gradient, g after f; the momentum encoder averages its weights."""
        return nn.Sequential(self.backbone, self.projector)

    @property
    def memory(self) -> Tensor | None:
        """Return the keys of earlier steps, unit rows `(K,D)`; None: there is no memory."""
        return None if self.queue is None else self.queue.rows

    @property
    def _stored_groups(self) -> Tensor | None:
        """Return the groups of the memory's keys `(K,)`; None without a memory, or where positives are by image."""
        return None if self.queue is None else self.queue.group

    @property
    def has_targets(self) -> bool:
        """Whether there is a memory, whose keys `targets` computes."""
        return self.key is not None

    @property
    def against_keys(self) -> bool:
        """Whether rows are compared with the batch's keys, rather than with the batch's rows."""
        return self.key is not None and self.cfg.memory_keys == "all"

    def synchronise(self) -> None:
        """Make the momentum encoder, if there is one, equal to the encoder that is trained."""
        if self.key is not None:
            self.key.load_state_dict(self.online.state_dict())

    def targets(self, views: Sequence[Tensor], batch: Batch) -> Targets:
        """Compute the momentum encoder's keys `(N,2,D)` of both views; None without a memory."""
        key = self.key
        return None if key is None else torch.stack([unit(key(view)) for view in views], dim=1)

    def candidates(self, z: Tensor, targets: Targets) -> Tensor:
        """Return the rows that z is compared with `(2N+K,D)`: keys or z itself, in z's order, then the memory."""
        batch = view_by_view(targets) if self.against_keys else z
        return batch if self.memory is None else torch.cat([batch, self.memory])

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute NT-Xent over both views and the memory, which holds no view of this step."""
        group, stored = batch.group_of(z), self._stored_groups
        if not self.against_keys:
            temperature = self.cfg.temperature
            return self.loss_scale * nt_xent_over_ranks(z, batch.local_rows, temperature, self.memory, group, stored)
        rows = torch.arange(len(z), device=z.device)[batch.local_rows]
        other = (rows + len(z) // 2) % len(z)
        groups = None if group is None or stored is None else (group[rows], torch.cat([group, stored]))
        loss = row_softmax(
            z[rows], self.candidates(z, targets), other, self.cfg.temperature, excluded=rows, groups=groups
        )
        return self.loss_scale * distributed.mean_over_ranks(loss, len(rows) / len(z))

    def prepare_groups(self, positives: GroupPositives) -> None:
        """Let the memory, if there is one, store the group of each key."""
        if self.queue is not None:
            self.queue.store_groups()

    def negatives(self, images: int) -> int:
        """Count both views of all other images and the memory: 2(N - 1) + K."""
        return super().negatives(images) + (0 if self.memory is None else len(self.memory))

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        """Push the keys to the memory, over the oldest ones, and update the momentum encoder."""
        if self.key is None or self.queue is None:
            return
        self.queue.push(view_by_view(targets), batch.group_of(z))
        update_ema(self.key, self.online, self.cfg.ema)

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """Measure how well first views find their second views among all rows that they are compared with."""
        candidates, images = self.candidates(z, targets), len(z) // 2
        first = torch.arange(images, device=z.device)
        group, stored = batch.group_of(z), self._stored_groups
        everyone = group if group is None or stored is None else torch.cat([group, stored])
        groups = None if group is None or everyone is None else (group[:images], everyone)
        return agreement(z[:images], candidates[images : len(z)], candidates, (first, first + images), groups)
