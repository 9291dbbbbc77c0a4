"""The arms of the study of SimCLR v2 (arXiv 2006.10029): head, layer, size of the network, labels, distillation."""

from collections.abc import Mapping
from typing import Any

from ssl_cli.study.arm import LINEAR, PRETRAIN, Arm, Given

METHOD, FINETUNE, DISTILL = "simclr-v2", "finetune", "distill"
LABELS = {"1%": "1 % of the labels", "10%": "10 % of the labels", "100%": "all labels"}
PART = 0.5
"""Images that fine-tuning sees at most, of those that pretraining sees; a student, not being pretrained, sees all."""
SMALLER = 0.5
"""Width of the smaller network, in that of the others."""
HEAD2, HALF = f"{PRETRAIN}-head2", f"{PRETRAIN}-half"


def kind_of(arm: str) -> str:
    """Return the name of an arm without its labels."""
    return arm.rpartition("-")[0] if arm.endswith("pct") else arm


def simclr_v2(given: Given) -> list[Arm]:
    """Make arms of classifiers from 1 %, 10 % and all labels, after pretraining with a head of three or two layers.

    `h` and `layer1` say from where fine-tuning starts; arms named `half` have a network of half the width, which is
    also the student of the `layer1` arm of its labels. A network whose width cannot be changed has no such arms.
    """
    arms = [
        Arm(PRETRAIN, METHOD, {"method.head_layers": 3}),
        Arm(HEAD2, METHOD, {"method.head_layers": 2}),
    ]
    if given.width is not None:
        arms.append(Arm(HALF, METHOD, {"method.head_layers": 3, "model.width": SMALLER * given.width}))
    for labels, words in LABELS.items():
        arms += _classifiers(labels, words, smaller=given.width)
    return arms


def _classifiers(labels: str, group: str, *, smaller: float | None) -> list[Arm]:
    """Make the arms with these labels, from scratch first."""
    ending = f"-{labels.removesuffix('%')}pct"
    learns: dict[str, Any] = {"data.labels": labels}
    h, first = learns | {"method.from_layer": 0}, learns | {"method.from_layer": 1}
    scratch = h | {"method.scratch": True}

    def arm(name: str, method: str, settings: Mapping[str, Any], start: str, share: float = PART) -> Arm:
        return Arm(f"{name}{ending}", method, settings, share, start=start, group=group)

    arms = [
        arm("scratch", FINETUNE, scratch, PRETRAIN),
        arm("linear", LINEAR, learns, PRETRAIN, 0.0),
        arm("h", FINETUNE, h, PRETRAIN),
        arm("layer1", FINETUNE, first, PRETRAIN),
        arm("head2-h", FINETUNE, h, HEAD2),
        arm("head2-layer1", FINETUNE, first, HEAD2),
    ]
    if smaller is None:
        return arms
    student = {"model.width": SMALLER * smaller}
    return [
        *arms,
        arm("half-scratch", FINETUNE, scratch, HALF),
        arm("half-linear", LINEAR, learns, HALF, 0.0),
        arm("half-layer1", FINETUNE, first, HALF),
        arm("half-distilled", DISTILL, student, f"layer1{ending}", share=1.0),
    ]
