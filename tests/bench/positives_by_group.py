"""What positives by group are worth on bursts: `python -m tests.bench.positives_by_group [DATA] [KEY=VALUE ...]`.

DATA holds `train/` and `val/`, a folder for each class; absent, shapes are rendered. Each of 400 training images
becomes a burst of four shots, each of a part of it and through a coloured grating of its own, which augmentation does
not take away, and by which alone views of a shot can be told from others. Test images are one such shot each of other
pictures. The same network is trained with second views of the same shot, and of another shot of the burst; kNN
(k 20, T 0.1) on h, for three seeds, next to pixels and the untrained network. Prints a JSON line for each run, then
the means.

Measured on CIFAR-10 (400 of 2,000 training JPEGs; 500 test images, standard error 1.9; SimCLR, ResNet-18
of width 0.25, batch 64, 6 epochs; mean and standard deviation over the seeds): positives by image 15.6 % (3.6), below
the untrained network, 18.0 % (2.9), and raw pixels, 20.8 %; positives by group 24.3 % (1.3).
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor

from ssl_cli.augment.sheet import png
from ssl_cli.config.sources import settle
from ssl_cli.data.shapes import Shapes
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_evaluation
from ssl_cli.data.split import part_of
from ssl_cli.engine.evaluation.evaluate import knn_of
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.engine.pretrain import pretrain
from tests.data.files import open_folder

BURSTS, SHOTS, TEST, SEEDS, K = 400, 4, 500, (0, 1, 2), 20
SETTINGS = (
    "data.size=32", "model.backbone=resnet18", "model.width=0.25", "run.batch=64", "schedule.epochs=6",
    "schedule.warmup=1", "run.evaluate=false", "run.monitor=false", "data.group_by={parent}",
    "hardware.precision=fp32", "hardware.memory_format=channels_last",
)  # fmt: skip


def shot(image: Tensor, generator: torch.Generator) -> Tensor:
    """Take a picture uint8 `(3,H,W)` once more, as a shot of its burst: of a part of it, and through a grating."""

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    x = image.float().div(255)
    side = int(min(x.shape[1:]) * draw(0.8, 1))
    top, left = (int(draw(0, size - side + 1)) for size in x.shape[1:])
    x = x[:, top : top + side, left : left + side]
    x = torch.nn.functional.interpolate(x[None], image.shape[1:], mode="bilinear", align_corners=False)[0]
    rows, columns = (torch.linspace(0, 1, size) for size in x.shape[1:])
    angle, waves = draw(0, math.pi), draw(3, 9)
    phase = waves * (math.cos(angle) * rows[:, None] + math.sin(angle) * columns) + draw(0, 1)
    colour = torch.rand(3, 1, 1, generator=generator) - 0.5
    return (0.6 * x + 0.2 + 0.8 * colour * (2 * math.pi * phase).sin()).clamp(0, 1).mul(255).round().byte()


def write(root: Path, source: Source, count: int, shots: int, seed: int) -> None:
    """Write shots of about `count` images of a source, as CLASS/IMAGE/SHOT.png."""
    generator = torch.Generator().manual_seed(seed)
    some = part_of(source, count, seed)
    for index in range(len(some)):
        folder = root / some.classes[int(some.labels[index])] / f"{seed}-{index}"
        folder.mkdir(parents=True)
        image = some.read(index)
        for number in range(shots):
            (folder / f"{number}.png").write_bytes(png(shot(image, generator)))


def runs(data: Path, sets: list[str]) -> Iterator[dict[str, object]]:
    """Train and measure with and without positives by group, for each seed."""
    for seed in SEEDS:
        for positives in ("image", "group"):
            with tempfile.TemporaryDirectory() as out:
                tables = {
                    "method": {"name": "simclr"},
                    "run": {"out": out, "seed": seed},
                    "data": {"source": str(data)},
                }
                settled = settle(tables, [*SETTINGS, f"data.positives={positives}", *sets], env={})
                for _ in pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=False):
                    pass
                trained = open_run(out, "cpu")
            images = open_evaluation(trained.settings.data, seed)
            found = knn_of(trained.objective, trained.settings, "fp32", images, ks=(K,), baselines=True)
            yield {"seed": seed, "positives": positives, "knn": found["top1"], **found["baselines"]}


def main() -> None:
    """Write the bursts, train, and print what was measured."""
    sets = [word for word in sys.argv[1:] if "=" in word]
    place = next((Path(word) for word in sys.argv[1:] if "=" not in word), None)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        for split, count, shots in (("train", BURSTS, SHOTS), ("val", TEST, 1)):
            source: Source = Shapes(16384, 32, 0, "train" if split == "train" else "validation")
            source = source if place is None else open_folder(place / split)
            write(data / split, source, count, shots, len(split))
        lines = []
        for line in runs(data, sets):
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            lines.append(line)
    for name, kind in (("knn", "image"), ("knn", "group"), ("untrained", "group"), ("pixels", "group")):
        values = [100 * float(str(line[name])) for line in lines if line["positives"] == kind]
        words = f"positives by {kind}" if name == "knn" else name
        sys.stdout.write(f"{words}: kNN {mean(values):.1f} % (standard deviation {stdev(values):.1f})\n")


if __name__ == "__main__":
    main()
