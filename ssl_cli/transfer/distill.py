"""Distillation: a student learns a fine-tuned teacher's outputs on images without labels.

SimCLR v2, Chen et al. 2020, arXiv 2006.10029, section 2, equation 2. Both see the same view. The teacher is frozen,
with the BatchNorm statistics of its training; the student's BatchNorm is in training mode, which the official notebooks
forget. The student's classifier is adapted and decayed as its other weights, so it starts from N(0, 0.01).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssl_cli import checkpoint, registry
from ssl_cli.config.methods import DistillSettings
from ssl_cli.config.resume import settings_of
from ssl_cli.losses.cross_entropy import cross_entropy, soft_cross_entropy
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.nn.batchnorm import convert
from ssl_cli.objective import Batch, Objective, Targets
from ssl_cli.transfer.finetune import Classifier, labelled_top1

DEVIATION = 0.01
"""Of the classifier's initial weights (model_util.py:128-183)."""


def load_classifier(file: str, sha256: str) -> Objective:
    """Build a fine-tuned or distilled run's network with its trained weights, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the file is gone or another, or is of no such run.
    """
    state = checkpoint.load(*checkpoint.reopen(file, sha256))
    settings = settings_of(state["settings"])
    backbone, features = build_backbone(settings.model, settings.data.size, settings.data.channels)
    kind = registry.load(registry.TRANSFERS[settings.method.name])
    net: Objective = kind(backbone, features, settings.method, len(settings.data.classes))
    convert(net)
    net.load_state_dict(state["objective"])
    return net.eval().requires_grad_(False)


class Distill(Objective):
    """Train a student to give the teacher's outputs: soft cross-entropy of the logits of one view of each image.

    Args:
        backbone: f of the student.
        features: width of h.
        cfg: settings.
        classes: their number.
    """

    views = gradient_views = key_views = 1
    paper_bn_group = "global"

    def __init__(self, backbone: nn.Module, features: int, cfg: DistillSettings, classes: int) -> None:
        super().__init__()
        self.cfg, self.classes, self.loss_scale = cfg, classes, cfg.loss_scale
        self.backbone = backbone
        self.classifier = Classifier(features, classes)
        nn.init.normal_(self.classifier.weight, std=DEVIATION)
        nn.init.zeros_(self.classifier.bias)
        share = f", {cfg.alpha:g} of the loss; the rest is the labels'" if cfg.alpha < 1 else ""
        self.facts = (("teacher", cfg.run, f"{classes} classes, temperature {cfg.temperature:g}{share}"),)
        self._frozen: tuple[Objective, ...] = ()

    @property
    def teacher(self) -> Objective:
        """Return the teacher, which is in evaluation mode, whatever this module's mode.

        It is no submodule: checkpoints are those of the student, which is evaluated without it.
        """
        return self._frozen[0]

    def prepare(self, images: int, seed: int) -> None:
        """Load the teacher.

        Raises:
            CheckpointError: its checkpoint is gone, or another than the one that training started with.
        """
        self._frozen = (load_classifier(self.cfg.checkpoint, self.cfg.sha256),)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Distill":
        for teacher in self._frozen:
            teacher._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call,no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits `(M, classes)` of images `(M,C,H,W)`."""
        return self.classifier(self.backbone(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def targets(self, views: Sequence[Tensor], batch: Batch) -> Targets:
        """Compute the teacher's logits `(N, classes)` of the view that the student sees."""
        return self.teacher(views[0])  # type: ignore[no-any-return]

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        """Compute alpha * soft cross-entropy + (1 - alpha) * cross-entropy with the labels, of rows that have one."""
        assert targets is not None
        alpha = self.cfg.alpha
        soft = soft_cross_entropy(z, targets, self.cfg.temperature)
        if alpha == 1:
            return self.loss_scale * soft
        return self.loss_scale * (alpha * soft + (1 - alpha) * cross_entropy(z, batch.label.to(z.device)))

    @torch.no_grad()
    def observe(self, z: Tensor, targets: Targets, batch: Batch) -> Mapping[str, Tensor]:
        """Measure how often student and teacher agree, and where labels count the accuracy on labelled rows."""
        assert targets is not None
        agree = {"teacher_agreement": (z.argmax(1) == targets.argmax(1)).float().mean()}
        return agree | (labelled_top1(z, batch) if self.cfg.alpha < 1 else {})
