"""The papers' own numbers for what a study asks, with their setting: to look at, never to compare in points."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MOCO, MOCO_V2, SIMCLR = "arXiv 1911.05722", "arXiv 2003.04297", "arXiv 2002.05709"
SIMCLR_V2 = "arXiv 2006.10029"


@dataclass(frozen=True)
class Paper:
    """Numbers of a paper, in per cent of images.

    Attributes:
        source: where they stand.
        setting: how they were measured.
        arms: by the name of an arm.
        others: by other words.
    """

    source: str
    setting: str
    arms: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)


LINEAR = "linear top-1 on ImageNet, ResNet-50"
TABLE_3 = Paper(
    f"{MOCO_V2}, table 3", "memory of a GPU and time of 200 epochs, ResNet-50, eight V100",
    others={
        "MoCo, batch 256": "5.0 GB, 53 h", "end to end, batch 256": "7.4 GB, 65 h",
        "end to end, batch 4096": "93.0 GB (estimate), time not given",
    },
)  # fmt: skip
PAPERS: dict[str, tuple[Paper, ...]] = {
    "rivalry": (
        Paper(
            f"{MOCO_V2}, table 2", LINEAR,
            others={
                "MoCo v2, batch 256, 200 epochs": "67.5", "SimCLR, batch 256, 200 epochs": "61.9",
                "SimCLR, batch 8192, 200 epochs": "66.6", "MoCo v2, batch 256, 800 epochs": "71.1",
                "SimCLR, batch 4096, 1000 epochs": "69.3",
            },
        ),
        TABLE_3,
    ),
    "cost": (TABLE_3,),
    "moco-v2-ablation": (
        Paper(
            f"{MOCO_V2}, table 1", f"{LINEAR}, 200 epochs; (e) 800",
            arms={
                "v1": "60.6", "a-mlp": "66.2", "b-aug": "63.4", "c-mlp-aug": "67.3", "d-mlp-aug-cos": "67.5",
                "e-4x-epochs": "71.1",
            },
        ),
    ),
    "temperature": (
        Paper(
            f"{MOCO_V2}, section 3.1", f"{LINEAR}, 200 epochs",
            arms={
                "moco-v2-t0.07": "62.9", "moco-v2-t0.1": "64.9", "moco-v2-t0.2": "66.2", "moco-v2-t0.3": "65.7",
                "moco-v2-t0.4": "65.0", "moco-v2-t0.5": "64.3",
            },
        ),
        Paper(
            f"{SIMCLR}, table 5", f"{LINEAR}, 100 epochs, batch 4096",
            arms={"simclr-t0.05": "59.7", "simclr-t0.1": "64.4", "simclr-t0.5": "60.7", "simclr-t1": "58.0"},
        ),
    ),
    "simclr-head": (
        Paper(
            f"{SIMCLR}, section 4.2", f"{LINEAR}, 100 epochs",
            others={
                "two layers against one": "about +3 points", "one layer against none": "more than +10 points",
                "z of 32 to 2,048 dimensions": "hardly a difference",
            },
        ),
    ),
    "simclr-batch": (
        Paper(
            f"{SIMCLR}, table B.1, square root rule", LINEAR,
            others={
                "batch 256": "62.9 in 100 epochs, 65.7 in 400", "batch 1024": "64.3 in 100 epochs, 67.2 in 400",
                "batch 4096": "64.5 in 100 epochs, 68.0 in 400",
            },
        ),
    ),
    "moco-dictionary": (
        Paper(
            f"{MOCO}, section 4.1", f"{LINEAR}, 200 epochs, 4,096 keys",
            arms={"momentum-0": "fails", "momentum-0.9": "55.2", "queue": "57.8", "momentum-0.999": "59.0"},
            others={"a memory bank of 65,536 rows": "58.0", "a queue of 65,536 keys": "60.6"},
        ),
    ),
    "simclr-v2": (
        Paper(
            f"{SIMCLR_V2}, table 1", "top-1 on ImageNet, 800 epochs; half: ResNet-50, others: ResNet-152, 3x, SK",
            arms={
                "layer1-1pct": "74.9", "layer1-10pct": "80.1", "layer1-100pct": "83.1", "linear-100pct": "79.8",
                "scratch-100pct": "80.5", "half-layer1-1pct": "57.9", "half-layer1-10pct": "68.4",
                "half-layer1-100pct": "76.3", "half-linear-100pct": "71.7", "half-scratch-100pct": "76.6",
            },
        ),
        Paper(
            f"{SIMCLR_V2}, table 2", "top-1 on ImageNet, ResNet-50, from labels alone or of ResNet-50, 2x, SK",
            arms={
                "half-scratch-1pct": "12.3", "half-scratch-10pct": "52.0", "half-distilled-1pct": "68.9",
                "half-distilled-10pct": "74.3",
            },
        ),
        Paper(
            f"{SIMCLR_V2}, section 1", "top-1 on ImageNet, 1 % of the labels, against SimCLR, relative",
            others={
                "ResNet-152, 3x, SK, in place of ResNet-50": "up to 29 % better",
                "fine-tuned from layer 1 of a head of three": "up to 14 % better",
            },
        ),
    ),
    "augmentations": (
        Paper(
            f"{SIMCLR}, figure 5", f"{LINEAR}, 100 epochs, views of one branch",
            arms={
                "crop-jitter": "56.3", "crop": "33.1", "jitter": "18.8", "crop-sobel": "46", "crop-noise": "39.9",
                "crop-blur": "35.0",
            },
        ),
    ),
}  # fmt: skip


def number(study: str, arm: str) -> str:
    """Return a paper's number for an arm; empty where it has none."""
    return next((paper.arms[arm] for paper in PAPERS.get(study, ()) if arm in paper.arms), "")
