"""How the `own` and `shapes` recipes of finetune and distill were tuned: on images held out of the training images.

Run by hand, one thread each: OMP_NUM_THREADS=1 python -m tests.bench.tune_transfer finetune|distill RUN [LABELS]
[section.key=value ...]

A run on the embedded shapes is measured on their validation stream; one on a folder of `train/` and `val/`, both of
training images, on `val/`. Prints one JSON line: the settings, top-1, its standard error, the last loss, seconds.

Recipes `own`, of a short run of `simclr` (`simclr.own`, ResNet-18 of width 0.25, 250 steps of 64 on 2,000 CIFAR-10
images; kNN 33.9 %), measured on 2,000 held-out training images (standard error 0.7 to 1.0; one seed):

| fine-tuned from h | 1 % (20 images) | 10 % (200) |
|---|---|---|
| rate 0.1, 60 and 30 epochs: the recipe | 16.6 | 28.1 |
| rate 0.03 | 15.0 | 28.1 |
| rate 0.05 | 14.7 | 27.7 |
| rate 0.2 | 12.3 | 18.0 |
| 20 epochs; 15 epochs | 14.5 | 27.6 |
| 60 epochs | | 29.2 |
| from random weights | 15.3 | 25.1 |
| linear probe of h (lbfgs, fast) | 18.8, 17.9 | 28.2, 28.2 |

No other rate or length is two standard errors better than the recipe, and a rate of 0.2 is too high. At 10 %
fine-tuning is above random weights by two standard errors; at 1 % it is distinguishable neither from them nor from the
probe.

Distilled, of the recipe's classifier from 10 % of these labels (28.1 %), into the same network, six epochs on all
images at batch 64: AdamW 1e-3, the recipe then, 29.0 with a warm-up of a tenth and 29.1 with one of 10 epochs, 3e-3
29.2 and 27.9, SGD 0.1 with Nesterov (10 epochs) 26.8: not distinguishable.

Distilled, of a classifier from 10 % of the labels of 10,000 CIFAR-10 images (46.0 %; eight epochs of `simclr-v2`, then
fine-tuned from h), into half its width, eight epochs at batch 64 (standard error 1.1), temperature 1: AdamW 1e-3 43.8
and 44.0 (seeds 0, 1), 3e-3 46.7, 1e-2 46.4; temperature 2: 1e-3 46.0 and 44.3, 3e-3 46.2; temperature 4: 1e-3 45.7.
"""

import json
import math
import sys
import tempfile
import time
from typing import Any

import torch

from ssl_cli import checkpoint
from ssl_cli.config.start import Request
from ssl_cli.data.places import is_shapes
from ssl_cli.data.sources import open_evaluation, open_test
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.classify import accuracy_of
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Event, Finished, Stepped
from ssl_cli.transfer.start import settle_start


def main() -> None:
    """Train once, measure on the held-out images."""
    command, run, *words = sys.argv[1:]
    labels = words.pop(0) if words and "=" not in words[0] else None
    with tempfile.TemporaryDirectory() as out:
        flags: dict[str, dict[str, Any]] = {"run": {"out": out, "evaluate": False}, "data": {"labels": labels}}
        settled = settle_start(Request(command, run, flags, words))
        start, loss, event = time.perf_counter(), math.nan, Event()
        for event in pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=False):
            loss = event.loss if isinstance(event, Stepped) else loss
        seconds = time.perf_counter() - start
        if not isinstance(event, Finished):
            raise SystemExit(f"The run did not finish: {event}")
        state = checkpoint.load(checkpoint.locate(out)[0])
    settings = settled.settings
    objective = build_objective(settings, torch.device("cpu"))
    objective.load_state_dict(state["objective"])
    if is_shapes(settings.data.places):
        test = open_evaluation(settings.data, settings.run.seed, "validation").queries
    else:
        test, _ = open_test(settings.data, settings.run.seed)
    top1 = accuracy_of(objective, settings, "fp32", test, "")["top1"]
    error = math.sqrt(top1 * (1 - top1) / len(test))
    result = {"labels": labels, "sets": words, "top1": top1, "error": error, "loss": loss, "seconds": seconds}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
