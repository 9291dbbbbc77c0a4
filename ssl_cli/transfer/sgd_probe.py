"""Linear classifiers trained by SGD on augmented images, as MoCo's and SimCLR's authors measure their encoders.

The encoder is frozen and in evaluation mode, so that an image's representation does not depend on its batch: it is
computed in parts of any size, and a step takes the rows of its own batch.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli.config.tree import CIFAR_UP_TO, OptimSettings, ScheduleSettings
from ssl_cli.errors import DivergedError
from ssl_cli.optim.build import build_optimiser
from ssl_cli.optim.schedule import peak_rate, rate


@dataclass(frozen=True)
class SgdProtocol:
    """How a classifier is trained.

    Attributes:
        optim: the optimiser.
        schedule: of the rate.
        batch: images a step, at most all; `small_batch` for images of up to 64 pixels.
        init_std: standard deviation of the first weights; 0: they are zero. Biases start at zero.
    """

    optim: OptimSettings
    schedule: ScheduleSettings
    batch: int
    small_batch: int
    init_std: float

    def batch_of(self, images: int, size: int) -> int:
        """Return the images of a step, of so many of this side."""
        return min(images, self.small_batch if size <= CIFAR_UP_TO else self.batch)


PROTOCOLS: Mapping[str, SgdProtocol] = {
    "moco": SgdProtocol(  # facebookresearch/moco, main_lincls.py
        OptimSettings(name="sgd", lr=30.0, weight_decay=0.0),
        ScheduleSettings(epochs=100, kind="step", every="epoch", milestones=(60, 80)),
        batch=256, small_batch=256, init_std=0.01,
    ),
    "simclr": SgdProtocol(  # arXiv 2002.05709, appendix B.6; google-research/simclr, README (512 on CIFAR-10), model.py
        OptimSettings(name="sgd", base_lr=0.1, lr_rule="linear", nesterov=True, weight_decay=0.0),
        ScheduleSettings(epochs=90, kind="cosine"),
        batch=4096, small_batch=512, init_std=0.0,
    ),
}  # fmt: skip


class SgdProbe:
    """Train a linear classifier on rows h `(N,F)`, a batch at a time.

    Args:
        width: F.
        classes: number of classes.
        protocol: how.
        batch: rows of a step; the last of an epoch may have fewer.
        images: rows of an epoch.
        seed: of the first weights.
        device: of the rows.
    """

    def __init__(
        self, width: int, classes: int, protocol: SgdProtocol, *, batch: int, images: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.protocol, self.peak, self.step = protocol, peak_rate(protocol.optim, batch), 0
        self.steps_per_epoch = math.ceil(images / batch)
        linear = nn.Linear(width, classes)
        with torch.no_grad():
            draw = torch.Generator().manual_seed(seed)
            linear.weight.copy_(protocol.init_std * torch.randn(classes, width, generator=draw))
            linear.bias.zero_()
        self.linear = linear.to(device)
        self.optimiser = build_optimiser(self.linear, protocol.optim, self.peak)

    def learn(self, h: Tensor, labels: Tensor) -> None:
        """Take one step on rows h `(B,F)` of int64 labels `(B,)`."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.protocol.schedule, self.peak, self.step, self.steps_per_epoch)
        self.optimiser.zero_grad()
        F.cross_entropy(self.linear(h), labels).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.step += 1

    @torch.no_grad()
    def scores(self, h: Tensor) -> Tensor:
        """Compute logits `(N, classes)` of rows `(N,F)`.

        Raises:
            DivergedError: the weights are not finite.
        """
        logits: Tensor = self.linear(h)
        if not bool(logits.isfinite().all()):
            raise DivergedError(
                f"The linear classifier diverged at a rate of {self.peak:g}.",
                "Use --protocol fast, which chooses the rate on held-out images.",
            )
        return logits


class Carry:
    """Cut rows that come in parts of any size into batches of `size`; what is left waits for the next part."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._rows, self._labels = list[Tensor](), list[Tensor]()

    def add(self, h: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches that are full with rows `(M,F)` and labels `(M,)` more."""
        h, labels = torch.cat([*self._rows, h]), torch.cat([*self._labels, labels])
        whole = len(h) // self.size * self.size
        self._rows, self._labels = [h[whole:]], [labels[whole:]]
        for start in range(0, whole, self.size):
            yield h[start : start + self.size], labels[start : start + self.size]

    def rest(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what is left, if anything."""
        if self._rows and len(self._rows[0]):
            yield self._rows[0], self._labels[0]
