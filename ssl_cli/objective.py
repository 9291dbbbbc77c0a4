"""The contract between methods and the engine: a batch of images, and the four verbs that train on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

Targets = Tensor | None
LocalRows = Tensor | slice
"""Rows of a step that one of several processes answers for: all, or row numbers int64 `(m,)`."""


@dataclass(frozen=True)
class Batch:
    """Images of one step, before augmentation; sliceable by rows.

    Attributes:
        image: uint8 `(N,C,H,W)`, or a list of N tensors `(C,H_i,W_i)` where sizes differ.
        label: int64 `(N,)`, -1 where there is none.
        index: int64 `(N,)`, stable for the data set's life.
        epoch: from 0.
        step: optimiser steps taken before this one.
        local_rows: the rows of z whose gradient `loss` is to find: all, or int64 `(m,)` where processes share a step.
    """

    image: Tensor | Sequence[Tensor]
    label: Tensor
    index: Tensor
    epoch: int = 0
    step: int = 0
    local_rows: LocalRows = field(default_factory=lambda: slice(None))

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> Batch:
        """The batch with its images on `device`; what is random is a function of the indices, and drawn beside them."""
        if isinstance(self.image, Tensor):
            return replace(self, image=to_device(self.image, device))
        return replace(self, image=[to_device(one, device) for one in self.image])

    def select(self, rows: Tensor) -> Batch:
        """The batch of these rows, an int64 `(M,)` selection, in this order, with their images."""
        if isinstance(self.image, Tensor):
            image: Tensor | list[Tensor] = self.image[to_device(rows, self.image.device)]
        else:
            image = [self.image[row] for row in rows.tolist()]
        return replace(self.rows(rows), image=image)

    def rows(self, rows: Tensor) -> Batch:
        """The batch of these rows, an int64 `(M,)` selection, in this order; images are left behind."""
        return Batch([], self.label[rows], self.index[rows], self.epoch, self.step)


def to_device(x: Tensor, device: torch.device | None) -> Tensor:
    """The tensor on `device`; to a card it goes by pinned memory, so that the host need not wait until it is there."""
    from_host = x.device.type == "cpu"
    if from_host and device is not None and device.type == "cuda":
        x = x.pin_memory()
    return x.to(device, non_blocking=from_host)


class Objective(nn.Module):
    """What a method says; the engine does the rest.

    `forward` is the only gradient path and, like `targets`, row-wise up to BatchNorm: the engine may call both on
    any whole BatchNorm groups of a batch. `loss` is pure. State moves in `after_step` and nowhere else, and all of it
    is a buffer or a parameter without gradient, so that a checkpoint holds it.
    """

    channels = 3
    """Of its images."""
    backbone: nn.Module
    """f, what survives pretraining: evaluation and export read it from a checkpoint by this name."""
    loss_scale: float = 1.0
    """Factor that `loss` applies to its value, and `chance` to its own."""
    gradient_views: int = 2
    """How many of the views pass through `forward`; the first ones."""
    paper_bn_group: int | Literal["global"] | None = None
    """Rows that share BatchNorm statistics in the paper; the plan says where a run differs."""
    views: int = 2
    """How many views an image gets."""

    shuffled_keys: bool = False
    """Whether a key would give its query away if both saw the same BatchNorm statistics."""
    key_views: int = 0
    """How many views pass through a momentum encoder in `targets`."""

    @property
    def target_views(self) -> tuple[int, ...]:
        """The views that `targets` looks at; where processes share a step, it may get none of the others."""
        return tuple(range(self.views)) if self.has_targets else ()

    @property
    def has_targets(self) -> bool:
        """Whether `targets` is to be asked."""
        return type(self).targets is not Objective.targets

    def prepare(self, images: int, seed: int) -> None:
        """Make the state that is as large as the data set: called once, before training and before a checkpoint."""

    def represent(self, x: Tensor) -> Tensor:
        """Representation h `(M,F)` of images `(M,3,H,W)`: the backbone alone."""
        return self.backbone(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings z `(M,D)` of images `(M,3,H,W)`."""
        raise NotImplementedError

    def targets(self, views: Sequence[Tensor], batch: Batch) -> Targets:
        """What the loss compares with, N rows first, no gradient: keys, teacher outputs, noise rows."""
        return None

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Scalar loss of z `(gradient_views * N, D)`, view by view; float32 or float64; moves no state.

        The value is that of all rows; of their gradient only `batch.local_rows` is asked for.
        """
        raise NotImplementedError

    def negatives(self, images: int) -> int | None:
        """How many rows an anchor is told apart from, for a batch of `images`."""
        return None

    def chance(self, images: int) -> float | None:
        """The loss of an encoder that tells nothing apart, for a batch of `images`: log(negatives + 1) of a softmax."""
        negatives = self.negatives(images)
        return None if negatives is None else self.loss_scale * math.log(negatives + 1)

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        """Move the state, after the optimiser; `progress` is the share of steps taken, 0 to 1."""

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, float | Tensor]:
        """Numbers for the display, 0-d tensors or floats, asked for at log steps only; the engine adds z's geometry."""
        return {}
