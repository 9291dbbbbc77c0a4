"""Fine-tuning: a classifier on a pretrained encoder, all trained by labels (SimCLR v2, arXiv 2006.10029, section 2).

The classifier reads h, or a hidden layer of the pretrained head: after its BatchNorm, if it has one, and its ReLU. It
is linear with a bias and starts at zero, as `zero_init_logits` of the official code, and the optimiser neither decays
nor adapts it. What is behind the layer is dropped. By default the kept layers train with the backbone, as in the
official TF2 code (tf2/run.py:619-622); in the TF1 code (model.py:99-103) they do not, though their BatchNorm statistics
move.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssl_cli.config.methods import FineTuneSettings
from ssl_cli.errors import UsageError
from ssl_cli.losses.cross_entropy import cross_entropy
from ssl_cli.nn.heads import Projector, projector
from ssl_cli.objective import Batch, Objective, Targets
from ssl_cli.transfer.weights import load_into


class Classifier(nn.Linear):
    """Compute logits, in float32 or in float64 if h is, also under autocast."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute logits `(M,C)` of rows `(M,F)`."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input if input.dtype == torch.float64 else input.float())


def first_layers(head: Projector, layers: int) -> Projector:
    """Return the head up to the ReLU of its hidden layer `layers`; 0: nothing, the identity.

    Raises:
        UsageError: it has fewer hidden layers.
    """
    layers_kept: list[nn.Module] = []
    found = 0
    for module in head:
        if found == layers:
            break
        layers_kept.append(module)
        found += isinstance(module, nn.ReLU)
    if found < layers:
        raise UsageError(f"The head has {found} hidden layers, not {layers}.", "Leave method.head_layers out.")
    return Projector(*layers_kept)


class FineTune(Objective):
    """Train a classifier of labelled images: cross-entropy of one view of each.

    Args:
        backbone: f.
        features: width of h.
        cfg: settings; `head_*` are those of the pretrained head.
        classes: their number.
    """

    views = gradient_views = 1
    paper_bn_group = "global"

    def __init__(self, backbone: nn.Module, features: int, cfg: FineTuneSettings, classes: int) -> None:
        super().__init__()
        self.cfg, self.classes, self.loss_scale = cfg, classes, cfg.loss_scale
        self.backbone = backbone
        whole = projector(features, cfg.head_layers, cfg.head_hidden, cfg.head_dim, cfg.head_batchnorm)
        self.projector = first_layers(whole, cfg.from_layer)
        self.projector.requires_grad_(cfg.trains == "head")
        width = (cfg.head_hidden or features) if cfg.from_layer else features
        self.classifier = Classifier(width, classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        layer = f"layer {cfg.from_layer} of its head, after the ReLU" if cfg.from_layer else "h"
        start = "random weights" if cfg.scratch else cfg.run
        self.facts = (("starts from", start, f"a classifier of {classes} classes on {layer}"),)

    @property
    def plain_parameters(self) -> tuple[nn.Parameter, ...]:
        """Return the classifier's parameters."""
        return tuple(self.classifier.parameters())

    def load_start(self) -> bool:
        """Load the backbone and the kept layers of the head, with their BatchNorm statistics; from scratch nothing.

        Returns:
            Whether it loaded them.

        Raises:
            CheckpointError: the file is gone, another than the settings name, or does not fit.
        """
        parts = {"backbone": self.backbone, "projector": self.projector}
        if not self.cfg.scratch:
            load_into(parts, self.cfg.checkpoint, self.cfg.sha256)
        return not self.cfg.scratch

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits `(M, classes)` of images `(M,C,H,W)`."""
        h = self.backbone(x)
        return self.classifier(self.projector(h) if self.cfg.from_layer else h)  # type: ignore[no-any-return]

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute the cross-entropy of logits z with the labels."""
        return self.loss_scale * cross_entropy(z, batch.label.to(z.device))

    def chance(self, images: int) -> float:
        """Compute the loss of equal logits: log(classes)."""
        return self.loss_scale * math.log(max(self.classes, 1))

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """Measure the accuracy on the labelled rows of the batch, before the step."""
        return labelled_top1(z, batch)


def plain_network(objective: Objective, run: str) -> nn.Sequential:
    """Return a classifier's network, images to logits, as plain modules with the same weights, in evaluation mode.

    Raises:
        UsageError: `run` is no classifier.
    """
    head = getattr(objective, "classifier", None)
    if not isinstance(head, Classifier):
        what = f"{run} was never fine-tuned: it has no classifier."
        raise UsageError(what, f"Leave --classifier out, or first: sslcli finetune {run} --labels 10%")
    linear = nn.Linear(head.in_features, head.out_features)
    linear.load_state_dict(head.state_dict())
    middle = nn.Sequential(*getattr(objective, "projector", ()))
    return nn.Sequential(objective.backbone, middle, linear).eval()


def labelled_top1(z: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Compute the accuracy of logits on the labelled rows; empty where there are none."""
    label = batch.label.to(z.device)
    has = label >= 0
    return {"train_top1": (z.argmax(1) == label)[has].float().mean()} if bool((batch.label >= 0).any()) else {}
