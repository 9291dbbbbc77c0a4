"""SimCLR v2: big self-supervised models are strong semi-supervised learners (Chen et al. 2020, arXiv 2006.10029).

Beside bigger networks, its pretraining is SimCLR with a deeper head, whose first layer fine-tuning keeps, and with a
memory of earlier embeddings, as MoCo's. The official code has no memory, which is worth 0.6 points (simclr#54, #77).
The memory here adds to SimCLR's own candidates, as section 2 reads; an author's answer (simclr#115) is that those of
the current batch come from the momentum encoder too. Use `head_batchnorm` with it: it keeps rows from fleeing as one.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ssl_cli.config.methods import SimCLRv2Settings
from ssl_cli.losses.geometry import agreement
from ssl_cli.losses.nt_xent_tiled import nt_xent_tiled
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.nn.ema import follow, momentum_copy
from ssl_cli.nn.heads import unit
from ssl_cli.nn.queue import Queue
from ssl_cli.objective import Batch, Targets


class SimCLRv2(SimCLR):
    """SimCLR, and if its settings have a memory: a momentum encoder's outputs are negatives of later steps (section 2).

    Without a memory there is no momentum encoder either, and all is as in SimCLR.
    """

    def __init__(self, backbone: nn.Module, features: int, cfg: SimCLRv2Settings) -> None:
        super().__init__(backbone, features, cfg)  # type: ignore[arg-type]
        self.ema = cfg.ema
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

    def targets(self, views: Sequence[Tensor], batch: Batch) -> Targets:
        """Keys `(N,2,D)` of both views, by the momentum encoder: nothing to this step, negatives to later ones."""
        key = self.key
        return None if key is None else torch.stack([unit(key(view)) for view in views], dim=1)

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """NT-Xent over both views and against the memory as it was, which holds no view of this step."""
        return nt_xent_tiled(z, self.cfg.temperature, extra=self.memory)

    def negatives(self, images: int) -> int:
        """2(N - 1) + K: both views of all other images, and the memory."""
        return super().negatives(images) + (0 if self.memory is None else len(self.memory))

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        """The memory takes the keys, newest in, oldest out; the momentum encoder follows."""
        if self.key is None or self.queue is None or targets is None:
            return
        self.queue.push(targets.transpose(0, 1).flatten(0, 1))
        follow(self.key, self.online, self.ema)

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """How well first views find their second ones among all rows of the batch and of the memory."""
        first, second = z.chunk(2)
        rows = torch.arange(len(first), device=z.device)
        candidates = z if self.memory is None else torch.cat([z, self.memory])
        return agreement(first, second, candidates, own=(rows, rows + len(first)))
