"""The contract between methods and the engine: a batch of images, and the four methods of an objective."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, overload

import torch
from torch import Tensor, nn

from ssl_cli import registry
from ssl_cli.errors import UsageError

Targets = Tensor | None
LocalRows = Tensor | slice
"""Rows of a step's z that this rank computes: all of them (a slice), or row numbers int64 `(m,)`."""


class GroupPositives(Protocol):
    """Positives of the training images by group; see `data.positives.Positives`."""

    group: Tensor

    def draw(self, seed: int, epoch: int, index: Tensor) -> Tensor:
        """Return the positive of each image of int64 indices `(M,)`."""


class PackedImages(Sequence[Tensor]):
    """Hold images of different sizes in one buffer, so that a single copy moves them to a GPU.

    An index gives one image, a view `(C,H_i,W_i)` of the buffer; a slice or an int64 tensor of rows gives the
    `PackedImages` of these images, which share the buffer.

    Attributes:
        pixels: uint8 or int16 `(P,C)`, the pixels of all images, row by row and image after image.
        start: int64 `(N,)` on the CPU, the row of `pixels` that holds each image's first pixel.
        sides: int64 `(N,2)` on the CPU, heights and widths.
    """

    def __init__(self, pixels: Tensor, start: Tensor, sides: Tensor) -> None:
        self.pixels, self.start, self.sides = pixels, start, sides

    @classmethod
    def pack(cls, images: Sequence[Tensor], pin_memory: bool = False) -> PackedImages:
        """Copy N images `(C,H_i,W_i)`, all on the CPU, into one buffer, in pinned memory if asked for."""
        sides = torch.tensor([image.shape[1:] for image in images])
        end, kind = sides.prod(1).cumsum(0), images[0].dtype
        pixels = torch.empty(int(end[-1]), images[0].shape[0], dtype=kind, pin_memory=pin_memory)
        torch.cat([image.permute(1, 2, 0).reshape(-1, image.shape[0]) for image in images], out=pixels)
        return cls(pixels, end - sides.prod(1), sides)

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, rows: int) -> Tensor: ...

    @overload
    def __getitem__(self, rows: slice | Tensor) -> PackedImages: ...

    def __getitem__(self, rows: int | slice | Tensor) -> Tensor | PackedImages:
        if isinstance(rows, int):
            top, (height, width) = int(self.start[rows]), self.sides[rows].tolist()
            return self.pixels[top : top + height * width].view(height, width, -1).permute(2, 0, 1)
        start, sides = self.start[rows], self.sides[rows]
        first, last = int(start.min()), int((start + sides.prod(1)).max())
        return PackedImages(self.pixels[first:last], start - first, sides)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[row] for row in range(len(self)))

    def to(self, device: torch.device) -> PackedImages:
        """Copy the pixels to `device`, without waiting where they lie in pinned memory."""
        return PackedImages(self.pixels.to(device, non_blocking=self.pixels.is_pinned()), self.start, self.sides)


@dataclass(frozen=True)
class Batch:
    """Images of one step, before augmentation.

    Attributes:
        image: uint8, or int16 from 0 to 32767, `(N,C,H,W)` with C from 1 to 16, or N tensors `(C,H_i,W_i)` where sizes
            differ; 0 is black, and the largest number of the type white.
        label: int64 `(N,)`, -1 where there is none.
        index: int64 `(N,)`, the image's place in its data set, which never changes.
        epoch: from 0.
        step: optimiser steps taken before this one.
        local_rows: the rows of z whose gradient `loss` must give on this rank: all, or int64 `(m,)` where several
            ranks share a step.
        group: int64 `(N,)`, 0 or above and equal for images of one group, none of which is another's negative; None:
            positives are by image.
        partner: as `image`, the images of which the views after the first are made; None: the same.
    """

    image: Tensor | Sequence[Tensor]
    label: Tensor
    index: Tensor
    epoch: int = 0
    step: int = 0
    local_rows: LocalRows = field(default_factory=lambda: slice(None))
    group: Tensor | None = None
    partner: Tensor | Sequence[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> Batch:
        """Copy the images to `device`, those of different sizes in a single transfer.

        Note:
            Labels and indices stay on the CPU: random numbers are computed from the indices, and computed there.
        """
        partner = None if self.partner is None else _moved(self.partner, device)
        return replace(self, image=_moved(self.image, device), partner=partner)

    def of_view(self, view: int) -> Batch:
        """Return the batch whose images are those that view number `view` is made of."""
        if self.partner is None:
            return self
        return replace(self, image=self.partner if view else self.image, partner=None)

    def select(self, rows: Tensor) -> Batch:
        """Return the batch of `rows`, int64 `(M,)` on the CPU, in this order, with their images."""
        partner = None if self.partner is None else _selected(self.partner, rows)
        return replace(self.rows(rows), image=_selected(self.image, rows), partner=partner)

    def rows(self, rows: Tensor) -> Batch:
        """Return the batch of `rows`, int64 `(M,)` on the CPU, in this order, without images."""
        group = None if self.group is None else self.group[rows]
        return Batch([], self.label[rows], self.index[rows], self.epoch, self.step, group=group)

    def group_of(self, z: Tensor) -> Tensor | None:
        """Return the group of each row of z `(V*N,D)`, view by view, int64 on its device; None: there are no groups."""
        return None if self.group is None else to_device(self.group, z.device).repeat(len(z) // len(self.group))


def _moved(image: Tensor | Sequence[Tensor], device: torch.device) -> Tensor | Sequence[Tensor]:
    """Copy images to a device, those of different sizes in a single transfer."""
    if isinstance(image, Tensor):
        return to_device(image, device)
    if isinstance(image, PackedImages):
        return image.to(device)
    if device.type == "cpu" or not image:
        return [one.to(device) for one in image]
    return PackedImages.pack(image, pin_memory=device.type == "cuda").to(device)


def _selected(image: Tensor | Sequence[Tensor], rows: Tensor) -> Tensor | Sequence[Tensor]:
    """Select images by their rows, int64 `(M,)` on the CPU, in this order."""
    if isinstance(image, Tensor):
        return image[to_device(rows, image.device)]
    return image[rows] if isinstance(image, PackedImages) else [image[row] for row in rows.tolist()]


def view_by_view(targets: Targets) -> Tensor:
    """Reorder targets of V views `(N,V,D)` to rows `(V*N,D)`, all of a view together, as z is ordered."""
    assert targets is not None
    return targets.transpose(0, 1).flatten(0, 1)


def device_of(net: nn.Module) -> torch.device:
    """Return the device of a network's parameters."""
    return next(net.parameters()).device


def to_device(x: Tensor, device: torch.device | None) -> Tensor:
    """Copy a tensor to `device` (None: leave it); from the CPU to a GPU through pinned memory, without waiting."""
    from_host = x.device.type == "cpu"
    if from_host and device is not None and device.type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=from_host)


class Objective(nn.Module):
    """Define what a method trains: its forward pass, targets, loss and state; the engine runs them.

    `forward` is the only path of gradient. Like `targets` it is row-wise up to BatchNorm, so the engine may call both
    on any whole BatchNorm groups of a batch. `loss` is a pure function. State changes in `after_step` and nowhere else,
    and all of it is buffers or parameters without gradient, so that a checkpoint holds it.
    """

    backbone: nn.Module
    """The network f that is kept after pretraining; evaluation and export read it from a checkpoint by this name."""
    channels = 3
    """Channels of the images, 1 to 16; set by the engine."""
    loss_scale: float = 1.0
    """Factor that `loss` applies to its value, and `chance` to its own."""
    views: int = 2
    """Views that are made of each image."""
    gradient_views: int = 2
    """Views that go through `forward`: the first ones."""
    key_views: int = 0
    """Views that go through a momentum encoder in `targets`; the plan estimates time and memory by it."""
    paper_bn_group: int | Literal["global"] | None = None
    """Rows per BatchNorm group in the paper; the plan reports where a run differs."""
    shuffled_keys: bool = False
    """Whether keys need BatchNorm groups of their own, other than their queries'."""

    classes: int = 0
    """Classes whose logits `forward` computes: such a run is measured by their accuracy. 0: it computes embeddings."""

    facts: tuple[tuple[str, str, str], ...] = ()
    """Rows of the plan: name, value and reason."""
    own_groups: tuple[tuple[float, float], ...] = ((1.0, 0.0),)
    """For each size of a group: the share of the images that are in groups of this size, and for such an image the
    share of all other images that are in its group. The default: positives are by image."""

    @property
    def plain_parameters(self) -> tuple[nn.Parameter, ...]:
        """Return what the optimiser neither decays nor adapts: under LARS a matrix of zeros would stay near zero."""
        return ()

    @property
    def target_views(self) -> tuple[int, ...]:
        """Return the numbers of the views that `targets` reads; on several ranks the others may be empty tensors."""
        return tuple(range(self.views)) if self.has_targets else ()

    @property
    def has_targets(self) -> bool:
        """Return whether the engine has to call `targets`."""
        return type(self).targets is not Objective.targets

    def prepare(self, images: int, seed: int) -> None:
        """Create the state whose size is the number of training images.

        Called once before training, and before a checkpoint is loaded.
        """

    def prepare_groups(self, positives: GroupPositives) -> None:
        """Create the state that positives by group need, given how those of the training images are drawn.

        Called after `prepare` where positives are by group, and only then: batches have a `group` then.
        """

    def load_start(self) -> bool:
        """Load the weights that training starts from, and return whether there are any.

        Called once, before the first step of a new run, on rank 0 alone, which broadcasts them.
        """
        return False

    def synchronise(self) -> None:
        """Copy the trained weights to the momentum encoder, if there is one, after initial weights were loaded.

        Only those of a head are loaded so late: the backbone has its own when it is passed to the method.
        """

    def represent(self, x: Tensor) -> Tensor:
        """Compute representations h `(M,F)` of images `(M,C,H,W)`: the backbone alone."""
        return self.backbone(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Compute embeddings z `(M,D)` of images `(M,C,H,W)`."""
        raise NotImplementedError

    def targets(self, views: Sequence[Tensor], batch: Batch) -> Targets:
        """Compute what the loss compares z with, without gradient: keys, teacher outputs or noise rows `(N,...)`."""
        return None

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute the scalar loss of z `(gradient_views * N, D)`, float32 or float64, view by view.

        The value is the mean over all rows. On several ranks only the gradient of `batch.local_rows` is needed.
        """
        raise NotImplementedError

    def negatives(self, images: int) -> int | None:
        """Count the negatives of an anchor, for a batch of `images`; None: not a contrastive loss.

        Where positives are by group, those of the anchor's own group are among them; see `over_groups`.
        """
        return None

    def chance(self, images: int) -> float | None:
        """Compute the loss of an encoder whose outputs are all equal, for a batch of `images`.

        Of a softmax this is log(negatives + 1), times `loss_scale`.
        """
        negatives = self.negatives(images)
        return None if negatives is None else self.loss_scale * self.over_groups(lambda n: math.log(n + 1), negatives)

    def over_groups(self, of: Callable[[float], float], negatives: int) -> float:
        """Average `of(n)` over the images, where n of an image's `negatives` are expected to be of other groups."""
        return sum(share * of(negatives * (1 - part)) for share, part in self.own_groups)

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        """Update the state after the optimiser's step; `progress` is the fraction of steps taken, 0 to 1.

        The engine does not call it after a step whose loss or gradient is not finite.
        """

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, float | Tensor]:
        """Compute further metrics for the log, floats or 0-d tensors; called at log steps only."""
        return {}

    @staticmethod
    def of(method: str, backbone: nn.Module, features: int, **options: Any) -> Objective:
        """Make the objective of a method around a network of your own; arguments of `own_loop.objective_of`."""
        from ssl_cli.own_loop import objective_of

        return objective_of(method, backbone, features, **options)

    def contrast(
        self, views: Sequence[Tensor], index: Tensor | None = None, epoch: int = 0
    ) -> tuple[Tensor, Callable[[], None]]:
        """Compute the loss of a batch in a loop of your own; return it and a function; see `own_loop.contrast`."""
        from ssl_cli.own_loop import contrast

        return contrast(self, views, index, epoch)


def objective_class(name: str) -> type[Objective]:
    """Import the class of a method, built in or the user's own.

    Raises:
        UsageError: there is no such method, or it is no Objective.
    """
    kind = registry.load(registry.method_path(name))
    if not (isinstance(kind, type) and issubclass(kind, Objective)):
        hint = "The README shows what a method of your own looks like."
        raise UsageError(f"'{name}' is no subclass of ssl_cli.objective.Objective.", hint)
    return kind


def make_objective(name: str, kind: type[Objective], *args: Any) -> Objective:
    """Call the class of a method with backbone, features, settings and, of a classifier, the number of classes.

    Raises:
        UsageError: a user's class cannot be constructed.
    """
    try:
        made = kind(*args)
        dict(made.named_modules())  # fails where it did not call the `__init__` of nn.Module
        return made
    except Exception as error:
        if ":" not in name:
            raise
        what = f"{type(error).__name__}: {error}"
        hint = "It is called as Class(backbone, features, cfg); the README shows one."
        raise UsageError(f"'{name}' cannot be made: {what}.", hint) from error
