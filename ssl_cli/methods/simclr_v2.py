"""SimCLR v2: big self-supervised models are strong semi-supervised learners (Chen et al. 2020, arXiv 2006.10029).

Beside bigger networks, its pretraining is SimCLR with a deeper head, whose first layer fine-tuning keeps, and with a
memory of earlier embeddings, as MoCo's. The official code has no memory, which is worth 0.6 points (simclr#54, #77).
An author: what a row is compared with comes from the momentum encoder, of current and of past batches (simclr#115).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ssl_cli import distributed
from ssl_cli.config.methods import SimCLRv2Settings
from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.row_softmax import row_softmax
from ssl_cli.methods.simclr import SimCLR, shared_nt_xent
from ssl_cli.nn.ema import momentum_copy, update_ema
from ssl_cli.nn.heads import unit
from ssl_cli.nn.queue import Queue
from ssl_cli.objective import Batch, Targets


class SimCLRv2(SimCLR):
    """SimCLR, and if its settings have a memory: rows also meet the momentum encoder's outputs (section 2).

    With `memory_keys` "all" each row finds the other view's key, among the keys of the batch and of earlier steps;
    with "past" the batch is compared with itself, as in SimCLR, and the memory adds negatives, which rows can flee as
    one: there `head_batchnorm` keeps them apart. Without a memory there is no momentum encoder either, and all is as
    in SimCLR.
    """

    cfg: SimCLRv2Settings

    def __init__(self, backbone: nn.Module, features: int, cfg: SimCLRv2Settings) -> None:
        super().__init__(backbone, features, cfg)
        self.key_views = self.views if cfg.memory else 0
        self.key = momentum_copy(self.online) if cfg.memory else None
        self.queue = Queue(cfg.memory, cfg.head_dim if cfg.head_layers else features) if cfg.memory else None

    @property
    def online(self) -> nn.Sequential:
        """What learns by gradient, g after f; what the momentum encoder follows."""
        return nn.Sequential(self.backbone, self.projector)

    @property
    def memory(self) -> Tensor | None:
        """Negatives beside the batch's, unit rows `(K,D)` of earlier steps; None: there are none."""
        return None if self.queue is None else self.queue.rows

    @property
    def has_targets(self) -> bool:
        """With a memory: what it is to take."""
        return self.key is not None

    @property
    def meets_keys(self) -> bool:
        """Whether rows are compared with the batch's keys, and not with one another."""
        return self.key is not None and self.cfg.memory_keys == "all"

    def targets(self, views: Sequence[Tensor], batch: Batch) -> Targets:
        """Keys `(N,2,D)` of both views, by the momentum encoder."""
        key = self.key
        return None if key is None else torch.stack([unit(key(view)) for view in views], dim=1)

    def candidates(self, z: Tensor, targets: Targets) -> Tensor:
        """What rows are compared with `(2N+K,D)`: keys or z itself, in z's order, and the memory as it was."""
        batch = _view_by_view(targets) if self.meets_keys else z
        return batch if self.memory is None else torch.cat([batch, self.memory])

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """NT-Xent over both views and against the memory, which holds no view of this step."""
        if not self.meets_keys:
            return self.loss_scale * shared_nt_xent(z, batch.local_rows, self.cfg.temperature, self.memory)
        own = torch.arange(len(z), device=z.device)[batch.local_rows]
        other = (own + len(z) // 2) % len(z)
        loss = row_softmax(z[batch.local_rows], self.candidates(z, targets), other, self.cfg.temperature, own=own)
        return self.loss_scale * distributed.mean_over_ranks(loss, len(own) / len(z))

    def negatives(self, images: int) -> int:
        """2(N - 1) + K: both views of all other images, and the memory."""
        return super().negatives(images) + (0 if self.memory is None else len(self.memory))

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        """The memory takes the keys, newest in, oldest out; the momentum encoder follows."""
        if self.key is None or self.queue is None:
            return
        self.queue.push(_view_by_view(targets))
        update_ema(self.key, self.online, self.cfg.ema)

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """How well first views find their second ones among all that they are compared with."""
        candidates, images = self.candidates(z, targets), len(z) // 2
        first = torch.arange(images, device=z.device)
        return agreement(z[:images], candidates[images : len(z)], candidates, own=(first, first + images))


def _view_by_view(keys: Targets) -> Tensor:
    """Keys `(N,2,D)` as rows `(2N,D)`, first views then second, as z has them."""
    assert isinstance(keys, Tensor)
    return keys.transpose(0, 1).flatten(0, 1)
