"""How the `own` recipes were tuned: settings against kNN and a linear probe on images that no run trained on.

Run by hand, one thread each: OMP_NUM_THREADS=1 python -m tests.bench.tune_own METHOD DATA [section.key=value ...]

DATA holds `train/` and `val/`, both of training images (never of a test set), a folder for each class; or it is
`shapes`, which are measured on their validation stream. Prints one JSON line: the settings, kNN (k 20, T 0.1) and
linear accuracy on `val/`, losses, seconds.

Measured: SimCLR, ResNet-18 of width 0.25, 2,000 CIFAR-10 images (JPEG), AdamW 2e-3, temperature 0.2, crops from 0.08,
normalised, bilinear, no zero gammas; 10,000 held-out training images (standard error 0.5), one seed. Raw pixels 33.2 %
and 36.4 %, untrained 26.3 % and 29.8 %.

| 10 epochs, batch 64 | kNN | linear |
|---|---|---|
| as above | 33.9 | 36.8 |
| crops from 0.2 | 35.3 | 40.5 |
| temperature 0.5 | 32.1 | 39.0 |
| rate 4e-3 | 32.5 | 38.7 |
| views from half the size, to 0.8 of the steps (two thirds of the work) | 34.4 | 40.3 |
| the same, 15 epochs (the work of 10) | 35.8 | 41.4 |

The recipe `own` as it is (rate 1.6e-3, crops from 0.2, full views), 10 epochs at batch 64: 35.8 and 37.9.

Crops and flips (`engine.plan.suited`): 15 epochs at batch 64 as the recipe has them, one seed; kNN and linear accuracy
on 1,000 digits (MNIST), 2,000 clothes (Fashion-MNIST) and 2,000 CIFAR-10 images, held-out training images all:

| | 1,700 digits | 1,700 clothes | 2,000 CIFAR-10 |
|---|---|---|---|
| raw pixels | 87.3, 89.4 | 75.3, 82.5 | 32.4, 35.6 |
| crops from 0.2, flips | 80.7, 92.5 | 70.5, 78.0 | 35.6, 38.8 |
| no flips | 83.2, 92.0 | 72.1, 78.8 | 37.0, 40.4 |
| no flips, crops from 0.4 | 86.0, 92.7 | 73.7, 76.8 | 35.1, 34.6 |
| the same, half the jitter | 81.6, 92.1 | 72.2, 79.3 | |

A linear classifier separates from originals 82, 82 and 50 % of crops from 0.2, and 93, 76 and 47 % of flips.

Views from half the size, to 0.8 of the steps: 21 epochs so, which took no longer than 15 with views of full size. Batch
64, 2,000 CIFAR-10 images, seeds 0 and 1; kNN and linear accuracy on 2,000 held-out training images:

| | full, 15 epochs | growing, 21 epochs |
|---|---|---|
| InvaSpread | 38.2, 37.8 and 41.0, 39.4 | 38.6, 39.1 and 43.3, 40.8 |
| InstDisc | 29.6, 28.3 and 35.9, 32.3 | 36.8, 33.3 and 40.8, 35.0 |
| MoCo v2 | 33.7, 33.1 and 40.8, 38.0 | 34.4, 33.8 and 39.6, 36.5 |
| MoCo v1 (seed 0) | 35.8 and 39.2 | 35.7 and 40.8 |

So InvaSpread and InstDisc have it in their recipes, MoCo does not.

Width (`planning.size`): four minutes on 2,000 CIFAR-10 images, one core, batch 64, one seed: width 0.25 made 52 epochs,
kNN 40.8 and linear 44.9; width 0.5, with a third more time, 21 epochs, 35.7 and 42.4 (pixels 32.4 and 35.6).

20 epochs at batch 128 (2,000 held-out images, standard error 1.1; pixels 34.8 and 37.0): 37.9 and 41.4; with growing
views 37.0 and 39.0. Shapes, two epochs, validation stream: batch 64 67.2 and 83.8, batch 128 60.9 and 81.1. Twenty
steps of 1,024 shapes: 27.4 and 46.4 at a rate of 3e-3, 33.4 and 51.5 at 6e-3, 30.2 and 45.7 at 1.6e-2; untrained 30.2
and 34.8.
"""

import json
import sys
import tempfile
import time

import torch

from ssl_cli import checkpoint
from ssl_cli.config.sources import settle
from ssl_cli.data.sources import open_evaluation
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.evaluate import knn_of
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Stepped
from ssl_cli.protocols.linear import linear_of

K = 20


def main() -> None:
    """Train once, measure on the held-out training images."""
    method, data, *sets = sys.argv[1:]
    with tempfile.TemporaryDirectory() as out:
        tables = {"method": {"name": method}, "run": {"out": out, "evaluate": False}, "data": {"source": data}}
        settled = settle(tables, sets)
        start, losses, top1 = time.perf_counter(), [], []
        for event in pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=False):
            if isinstance(event, Stepped):
                losses.append(event.loss)
                top1.append(event.numbers.get("top1", 0.0))
        seconds = time.perf_counter() - start
        state = checkpoint.load(checkpoint.locate(out)[0])
    objective = build_objective(settled.settings, torch.device("cpu"))
    own = objective.state_dict()  # a queue is at most as long as the images are many
    found = {key: value for key, value in state["objective"].items() if key in own and own[key].shape == value.shape}
    objective.load_state_dict(found, strict=False)
    split = "validation" if data == "shapes" else "test"
    images = open_evaluation(settled.settings.data, settled.settings.run.seed, split)
    precision = state["resolved"]["precision"]
    knn = knn_of(objective, settled.settings, precision, images, ks=(K,), baselines=True)
    linear = linear_of(objective, settled.settings, precision, images, baselines=True)
    record = {
        "method": method, "data": data, "sets": sets, "steps": state["step"], "seconds": round(seconds, 1),
        "knn": round(100 * knn["top1"], 1), "linear": round(100 * linear["top1"], 1),
        "knn_baselines": {name: round(100 * value, 1) for name, value in knn["baselines"].items()},
        "linear_baselines": {name: round(100 * value, 1) for name, value in linear["baselines"].items()},
        "loss": round(losses[-1], 3), "top1": round(top1[-1], 3),
    }  # fmt: skip
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
